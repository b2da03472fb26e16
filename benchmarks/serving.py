"""The server to measure against, in a process of its own that never outlives this one."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvstore import FileSystemStore, MemoryStore
from kvstore.server import Settings, serve

#: Where ``python -m benchmarks`` finds this package.
ROOT: Final = Path(__file__).parent.parent

_START: Final = 30.0  # seconds until it must accept connections
_END: Final = 10.0  # seconds that it has to end by itself


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    url: str
    pid: int


@contextlib.contextmanager
def running_server(kind: str, folder: Path) -> Iterator[Served]:
    """Run a server on loopback over a store: ``memory``, or ``folder``, which is at *folder*.

    Raises:
        RuntimeError: it does not start.
    """
    command = [sys.executable, "-m", "benchmarks.serving", kind, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield Served(_url(process), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        url = process.stdout.readline().strip() if selector.select(_START) else ""
    if not url:
        raise RuntimeError(f"The server (process {process.pid}) did not start.")
    return url


def _main(kind: str, folder: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = MemoryStore() if kind == "memory" else FileSystemStore(folder)
    serve(store, Settings(port=0), ready=lambda url: print(url, flush=True))


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
