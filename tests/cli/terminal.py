"""A terminal of a given width, and what a program shows in it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """What a program has sent to its terminal."""

    code: int
    raw: bytes

    @property
    def text(self) -> str:
        """Without colours, and with plain line ends."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.raw.decode()).replace("\r\n", "\n")


def run_in_terminal(
    command: Sequence[str], env: dict[str, str], *, columns: int = 100, **streams: int
) -> Shown:
    """Run *command* with its streams, but for those given, in a terminal of this width."""
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        ends = {"stdin": its, "stdout": its, "stderr": its, **streams}
        process = subprocess.Popen(command, env=env, **ends)
    finally:
        os.close(its)
    raw = b""
    try:
        while piece := os.read(ours, 1 << 16):
            raw += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    return Shown(process.wait(), raw)
