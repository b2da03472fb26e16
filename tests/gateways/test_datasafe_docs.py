"""What docs/datasafe.md tells people to type works, and prints what it says."""

from __future__ import annotations

import pytest

from tests.gateways.datasets import FAMILY
from tests.interop.peers import DATASAFE, free_port, installed, program
from tests.pages import Page

PAGE = Page("datasafe")


@pytest.mark.timeout(400)
def test_the_commands_print_what_the_page_says(tmp_path):
    program("curl", "curl")
    client = installed("datasafe", DATASAFE) / "python"
    (code,) = PAGE.blocks("python")
    code = code.replace("TOKEN", "'$TOKEN'")
    *printed, last = PAGE.run(
        tmp_path,
        {"TMPDIR": str(tmp_path), "no_proxy": "127.0.0.1"},
        port=free_port(),
        last=f"{client} -W ignore -c '{code}\nprint(loi)'",
    )
    for (command, told), lines in zip(PAGE.commands(), printed, strict=True):
        assert lines.splitlines() == told, command
    # What is in Python on the page comes last: its number is the next.
    assert last == f"{FAMILY}/2\n"
