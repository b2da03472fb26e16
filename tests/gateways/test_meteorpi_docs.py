"""The commands in the documentation of the gateway do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.interop.peers import free_port, program

PAGE = Path(__file__).parents[2] / "docs" / "meteorpi.md"
MARK = "--- next ---"


def commands() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> "):
                command, printed = found.pop()
                found.append((f"{command}\n{line[2:]}", printed))
            else:
                found[-1][1].append(line)
    return found


def test_the_commands_print_what_the_page_says(tmp_path):
    program("curl", "curl")
    known = commands()
    port = free_port()
    script = ["set -eu", "trap 'kill $!' EXIT", "mkfifo told"]
    for command, _ in known:
        if command.startswith("kvstore serve"):
            command = f"{command} --port {port} --log none > told & exec 3< told; read -r _ <&3"
        script += [command.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), f"echo; echo '{MARK}'"]
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.replace(f"127.0.0.1:{port}", "127.0.0.1:8000").split(f"{MARK}\n")
    assert len(printed) == len(known) + 1
    for (command, expected), text in zip(known, printed, strict=False):
        lines = text.strip().splitlines()
        assert len(lines) == len(expected), f"{command} printed {text}"
        for line, pattern in zip(lines, expected, strict=True):
            assert re.fullmatch(re.escape(pattern).replace("…", ".*"), line), line
