"""Begins processes that write to a SQLiteStore, and kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stores import kill_child


class Nursery:
    """Begins writers and kills them."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child

    def ask(self, line: str) -> Any:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def begin(self, job: dict[str, Any], seconds: float) -> list[int]:
        """Have writers write for a while; return their pids."""
        pids: list[int] = self.ask(json.dumps(job))
        threading.Event().wait(seconds)
        return pids

    def end(self, pids: list[int]) -> list[int]:
        """Kill the writers that are still alive; return how each ended."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        statuses: list[int] = self.ask("wait")
        return statuses


@contextmanager
def nursery(stderr: int | None = None) -> Iterator[Nursery]:
    """Begin the process that writers are forked from; *stderr* is where they complain."""
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        [sys.executable, kill_child.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield Nursery(child)
        finally:
            child.kill()
