"""What docs/filetracker.md tells people to type works, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore import MemoryStore
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.server import serve_background
from tests.interop.peers import FILETRACKER, free_port, installed

PAGE = Path(__file__).parents[2] / "docs" / "filetracker.md"
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


@pytest.fixture
def old_server():
    """One of our own in the place of the old server; tests/interop has a real one."""
    store = MemoryStore()
    with store, serve_background(store, gateways=[FiletrackerGateway()]) as url:
        store.set_data("old/file", b"old")
        yield f"{url}/filetracker"


@pytest.mark.timeout(400)
def test_the_commands_and_programs_do_what_the_page_says(tmp_path, old_server):
    client = installed("filetracker", FILETRACKER)
    known = commands()
    port = free_port()
    script = ["set -eu", "trap 'kill $!' EXIT", "mkfifo told"]
    for command, _ in known:
        if command.startswith("kvstore serve"):
            command = f"{command} --port {port} --log none > told & exec 3< told; read -r _ <&3"
        script += [command, f"echo '{MARK}'"]
    code = "".join(blocks("python")).replace("http://files.example.org:9999", old_server)
    code += '\nstore.connect()\nprint(store.to_bytes("old/file"))'
    script.append("python -c '" + code.replace("TOKEN", "'\"$TOKEN\"'") + "'")
    text = "\n".join(script).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    path = f"{Path(sys.executable).parent}:{client}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "no_proxy": "127.0.0.1"},
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
    assert last.splitlines() == ["2000", "['contest/2/in.txt']", "b'old'"]
    assert (tmp_path / "in.txt").read_bytes() == (tmp_path / "copy.txt").read_bytes() == b"7 8 9\n"


def test_each_defect_of_the_table_has_a_test():
    numbers = set(re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.M))
    tests = PAGE.parents[1] / "tests" / "gateways" / "test_filetracker_defects.py"
    tested: set[str] = set()
    for name in re.findall(r"^def test_((?:\d\d_)(?:and_\d\d_)?)", tests.read_text(), re.M):
        tested |= {str(int(number)) for number in re.findall(r"\d\d", name)}
    assert numbers == tested == {str(number) for number in range(1, 23)}
