"""What docs/replication.md tells people to type works, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "replication.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def test_the_python_of_the_page_runs(capsys):
    space: dict[str, object] = {}
    for number, code in enumerate(blocks("python")):
        exec(compile(code, f"replication.md, block {number}", "exec"), space)
    assert capsys.readouterr().out == ""


def test_the_commands_print_what_the_page_says(tmp_path):
    (block,) = blocks("console")
    lines = block.splitlines()
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    printed = [line for line in lines if not line.startswith("$ ")]
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
