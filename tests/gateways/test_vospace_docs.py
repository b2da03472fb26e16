"""What docs/vospace.md tells people to type works, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways.vos_home import client, furnish
from tests.interop.peers import free_port

PAGE = Path(__file__).parents[2] / "docs" / "vospace.md"
MARK = "--- next ---"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def _commands() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(_blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


@pytest.mark.timeout(400)
def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    known = _commands()
    port = free_port()
    (code,) = _blocks("python")
    (tmp_path / "more.py").write_text(code)
    script = ["set -eu", "trap 'kill $!' EXIT", "mkfifo told"]
    for command, _ in known:
        if command.startswith("kvstore serve"):  # two processes: jobs are seen by both
            options = f"--port {port} --workers 2 --log none"
            command = f"{command} {options} > told & exec 3< told; read -r _ <&3"
        script += [command.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), f"echo '{MARK}'"]
    script.append(f"{client() / 'python'} more.py")
    home = tmp_path / "home"
    # As on a machine without a network: what the client would ask for first is there.
    environment = furnish(home, "http://127.0.0.1:1")
    (home / ".config" / "cadc-registry" / "resource-caps").unlink()
    (home / ".config" / "vos" / "vos-config").unlink()
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**environment, "PATH": path, "TMPDIR": str(tmp_path)},
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
    assert last == "['run2.txt', 'run3.txt']\n"
