"""Begins processes that write to a SQLiteStore, and kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stores import kill_child
from tests.stores.children import child_process


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
    with child_process(kill_child, stderr=stderr) as child:
        yield Nursery(child)
