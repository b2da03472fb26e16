"""The commands in the documentation of the gateway do what it says."""

from __future__ import annotations

import os
import re

from tests.interop.peers import free_port, program
from tests.pages import Page

PAGE = Page("meteorpi")


def test_the_commands_print_what_the_page_says(tmp_path):
    program("curl", "curl")
    printed = PAGE.run(tmp_path, {**os.environ, "NO_PROXY": "*"}, port=free_port())
    for (command, expected), text in zip(PAGE.commands(), printed[:-1], strict=True):
        lines = text.strip().splitlines()
        assert len(lines) == len(expected), f"{command} printed {text}"
        for line, pattern in zip(lines, expected, strict=True):
            assert re.fullmatch(re.escape(pattern).replace("…", ".*"), line), line
