"""What docs/vospace.md tells people to type works, and prints what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateways.vos_home import client, furnish
from tests.interop.peers import free_port
from tests.pages import Page

PAGE = Page("vospace")


@pytest.mark.timeout(400)
def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    (code,) = PAGE.blocks("python")
    (tmp_path / "more.py").write_text(code)
    home = tmp_path / "home"
    # As on a machine without a network: what the client would ask for first is there.
    environment = furnish(home, "http://127.0.0.1:1")
    (home / ".config" / "cadc-registry" / "resource-caps").unlink()
    (home / ".config" / "vos" / "vos-config").unlink()
    *printed, last = PAGE.run(
        tmp_path,
        {**environment, "TMPDIR": str(tmp_path)},
        port=free_port(),
        serve=["--workers 2"],  # jobs are seen by both
        last=f"{client() / 'python'} more.py",
    )
    for (command, told), lines in zip(PAGE.commands(), printed, strict=True):
        assert lines.splitlines() == told, command
    assert last == "['run2.txt', 'run3.txt']\n"
