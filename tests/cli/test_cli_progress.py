from __future__ import annotations

import io
import sys

import pytest

from kvstore.cli import progress
from kvstore.cli.progress import LARGE, SLOW, Transfers


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def in_terminal(monkeypatch):
    """Makes standard error a terminal; in the test itself, as pytest puts its own there first."""

    def in_terminal():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "90")
        file = Terminal()
        monkeypatch.setattr(sys, "stderr", file)
        return file

    return in_terminal


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_outside_of_a_terminal_nothing_is_shown(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with Transfers(3, stay=True) as transfers:
        transfers.of("get big")(LARGE, 2 * LARGE)
        transfers.advance()
    assert file.getvalue() == ""


def test_what_is_small_and_fast_is_not_shown(in_terminal, clock):
    terminal = in_terminal()
    with Transfers(2) as transfers:
        transfers.of("get small")(10, LARGE - 1)
        transfers.of("get unknown")(10, -1)
        transfers.advance()
    assert terminal.getvalue() == ""


def test_what_is_large_is_shown_at_once(in_terminal, clock):
    terminal = in_terminal()
    with Transfers() as transfers:
        transfers.of("get big")(LARGE // 2, LARGE)
        assert "get big" in terminal.getvalue()
        assert "2.1 MB of 4.2 MB" in terminal.getvalue()
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_what_is_slow_is_shown_after_a_while(in_terminal, clock):
    terminal = in_terminal()
    with Transfers() as transfers:
        move = transfers.of("get slow")
        move(1000, -1)
        assert terminal.getvalue() == ""
        clock.now = SLOW
        move(2000, -1)
        assert "get slow" in terminal.getvalue()


def test_keys_are_counted_beside_their_bytes(in_terminal, clock):
    terminal = in_terminal()
    with Transfers(2, stay=True) as transfers:
        transfers.of("copy a")(5, 5)
        transfers.advance()
        transfers.of("copy b")(7, 7)
        transfers.advance()
    *_, last = terminal.getvalue().split("\x1b[2K")
    assert last.startswith("keys ")
    assert "2/2" in last
    assert "copy" not in last


def test_the_bytes_of_all_keys_are_told(in_terminal, clock):
    terminal = in_terminal()
    with Transfers(2, 3 * LARGE, stay=True) as transfers:
        first, second = transfers.of("copy a"), transfers.of("copy b")
        first(LARGE // 2, LARGE)
        second(LARGE, 2 * LARGE)
        first(0, LARGE)  # it broke off
        first(LARGE, LARGE)
        transfers.advance()
        second(2 * LARGE, 2 * LARGE)
        transfers.advance()
    *_, last = terminal.getvalue().split("\x1b[2K")
    assert "2/2, 12.6 MB of 12.6 MB" in last


def test_labels_cannot_move_the_cursor(in_terminal, clock):
    terminal = in_terminal()
    with Transfers() as transfers:
        transfers.of("get a\x1b[2Jb")(1, LARGE)
    assert "get a\\x1b[2Jb" in terminal.getvalue()


def test_an_interrupted_bar_gives_the_cursor_back(in_terminal, clock):
    terminal = in_terminal()
    with pytest.raises(KeyboardInterrupt), Transfers() as transfers:
        transfers.of("get big")(1, LARGE)
        raise KeyboardInterrupt
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
