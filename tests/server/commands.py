"""Servers as commands of their own, and what these take of the machine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def started(*words: str) -> Iterator[tuple[str, int]]:
    """Run Python with *words*; gives the URL that it prints first, and its process."""
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def serving(folder: Path, *words: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """As :func:`started`: ``kvstore serve`` over a store in a folder."""
    store = f"sqlite:{folder}"
    return started("-m", "kvstore", "serve", store, "--port", "0", "--log", "none", *words)


def peak(pid: int) -> int:
    """Most memory that a process has had at one time, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
