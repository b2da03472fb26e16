from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Seconds after which a thread or a socket that is still there has been left behind.
BOUND = 20.0
_FDS = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, certificates and ``.netrc`` of whoever runs the tests decide nothing."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Stores that were disconnected leave no socket and no thread."""
    threads, sockets = _threads(), _sockets()
    yield
    end = time.monotonic() + BOUND
    while (left := (_threads() - threads, _sockets() - sockets)) != (set(), set()):
        if time.monotonic() > end:
            pytest.fail(f"left behind: {left}")
        gc.collect()
        for thread in left[0]:
            thread.join(0.1)  # it has been told to end


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kvstore-")}


def _sockets() -> set[str]:
    found = set()
    for entry in _FDS.iterdir() if _FDS.exists() else ():
        try:
            target = str(entry.readlink())
        except OSError:  # the one that lists them
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
