"""What docs/filetracker.md tells people to type works, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvstore import MemoryStore
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.server import serve_background
from tests.interop.peers import FILETRACKER, free_port, installed
from tests.pages import Page

PAGE = Page("filetracker")
ROOT = Path(__file__).parents[2]


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
    code = "".join(PAGE.blocks("python")).replace("http://files.example.org:9999", old_server)
    code += '\nstore.connect()\nprint(store.to_bytes("old/file"))'
    *printed, last = PAGE.run(
        tmp_path,
        {
            "PATH": f"{client}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "no_proxy": "127.0.0.1",
        },
        port=free_port(),
        last="python -c '" + code.replace("TOKEN", "'\"$TOKEN\"'") + "'",
    )
    for (command, told), lines in zip(PAGE.commands(), printed, strict=True):
        assert lines.splitlines() == told, command
    assert last.splitlines() == ["2000", "['contest/2/in.txt']", "b'old'"]
    assert (tmp_path / "in.txt").read_bytes() == (tmp_path / "copy.txt").read_bytes() == b"7 8 9\n"


def test_each_defect_of_the_table_has_a_test():
    page = (ROOT / "docs" / "filetracker.md").read_text()
    numbers = set(re.findall(r"^\| (\d+) \|", page, re.M))
    tests = ROOT / "tests" / "gateways" / "test_filetracker_defects.py"
    tested: set[str] = set()
    for name in re.findall(r"^def test_((?:\d\d_)(?:and_\d\d_)?)", tests.read_text(), re.M):
        tested |= {str(int(number)) for number in re.findall(r"\d\d", name)}
    assert numbers == tested == {str(number) for number in range(1, 23)}
