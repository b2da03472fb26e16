"""What docs/datasafe.md tells people to type works, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways.datasets import FAMILY
from tests.interop.peers import DATASAFE, free_port, installed, program

PAGE = Path(__file__).parents[2] / "docs" / "datasafe.md"
MARK = "--- next ---"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def commands() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


@pytest.mark.timeout(400)
def test_the_commands_print_what_the_page_says(tmp_path):
    program("curl", "curl")
    client = installed("datasafe", DATASAFE) / "python"
    known = commands()
    port = free_port()
    (code,) = blocks("python")
    script = ["set -eu", "trap 'kill $!' EXIT", "mkfifo told"]
    for command, _ in known:
        if command.startswith("kvstore serve"):
            command = f"{command} --port {port} --log none > told & exec 3< told; read -r _ <&3"
        script += [command.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), f"echo '{MARK}'"]
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("TOKEN", "'$TOKEN'")
    script.append(f"{client} -W ignore -c '{code}\nprint(loi)'")
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.split(f"{MARK}\n")
    assert len(printed) == len(known)
    for (command, told), lines in zip(known, printed, strict=True):
        assert lines.splitlines() == told, command
    # What is in Python on the page comes last: its number is the next.
    assert last == f"{FAMILY}/2\n"
