"""What docs/replication.md tells people to type works, and prints what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.pages import Page

PAGE = Page("replication")


def test_the_python_of_the_page_runs(capsys):
    space: dict[str, object] = {}
    for number, code in enumerate(PAGE.blocks("python")):
        exec(compile(code, f"replication.md, block {number}", "exec"), space)
    assert capsys.readouterr().out == ""


def test_the_commands_print_what_the_page_says(tmp_path):
    commands = [command for command, _ in PAGE.commands()]
    printed = [line for _, lines in PAGE.commands() for line in lines]
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -eu", *commands])],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == printed
