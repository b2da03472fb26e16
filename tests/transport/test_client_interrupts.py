"""Ctrl-C during a transfer: a process ends at once, without a part of a file or an open socket.

Each case is a process of its own that gets a real SIGINT while it waits for the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.transport.clients import announced
from tests.transport.wire_server import Broken, Wire, WireServer, answer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGINT for another process")

SIZE = 40 << 20

#: The name of what is done, and the statement; ``path`` is in a folder of the test's.
CASES = {
    "get_data": "store.get_data('k').read()",
    "to_file": "store.to_file('k', path)",
    "to_file in ranges": "store.to_file('k', path)",
    "to_bytes": "store.to_bytes('k')",
    "set": "store.set('k', (b'x' * (40 << 20), {}))",
    "set stream": "store.set_data('k', iter([b'x' * (40 << 20)]))",
    "query": "list(store.query_keys())",
    "metadata": "store.get_metadata('k')",
    "pause": "store.get_metadata('k')",
}

CHILD = """
import gc, sys, warnings
from pathlib import Path
from kvstore import DynamicURLStore
from kvstore.transport.policy import Policy

warnings.simplefilter("error")
url, path, ranges = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
unraisable = []
sys.unraisablehook = unraisable.append
policy = Policy(ranges=ranges, read_timeout=600, write_timeout=600, call_timeout=600,
                minimum_rate=0, retry_after_limit=600)
try:
    with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=policy) as store:
        STATEMENT
except KeyboardInterrupt:
    gc.collect()
    print("interrupted", [str(each.exc_value) for each in unraisable])
"""


class Asked:
    """A server that begins to answer, and says when the client waits for more."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waits = threading.Event()
        self.gone = threading.Event()

    def __call__(self, wire: Wire) -> None:
        if self.name == "pause":
            wire.send(answer(503, Retry_After=500))
            self.waits.set()
            return
        if self.name.startswith("set"):
            wire._more()  # and read no more, until the client is gone
            self.waits.set()
            self.gone.wait(60)
            raise Broken
        if "range" in wire.seen.headers:
            first, _, last = wire.seen.headers["range"].removeprefix("bytes=").partition("-")
            told = f"bytes {first}-{last}/{SIZE}"
            length = int(last) + 1 - int(first)
            fields = {"Content_Range": told, "Content_Length": length, "ETag": '"r"'}
            wire.send(answer(206, b"", **fields) + b"x" * 1000)
        elif wire.seen.method == "HEAD" or wire.seen.target.endswith("/metadata"):
            if self.name == "metadata":
                self.waits.set()
                wire.hang()
            is_head = wire.seen.method == "HEAD"
            fields = {"Content_Length": SIZE, "ETag": '"r"'} if is_head else {}
            wire.send(answer(200, b"" if is_head else b"{}", **fields))
            return
        else:
            begun = b"k\n" * 150_000  # data, or a listing
            wire.send(answer(200, b"", Content_Length=SIZE, ETag='"r"') + begun)
        self.waits.set()
        wire.hang()


@pytest.mark.parametrize("name", CASES)
def test_it_ends_at_once_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    asked = Asked(name)
    service = announced("conditional", "digest") if "ranges" in name else answer(404)
    script = CHILD.replace("STATEMENT", CASES[name])
    folder = tmp_path / "folder"
    folder.mkdir()
    with WireServer(default=asked, service=service) as server:
        ranges = "4" if "ranges" in name else "1"
        command = [sys.executable, "-c", script, server.url, str(folder / "file"), ranges]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert asked.waits.wait(60)
            child.send_signal(signal.SIGINT)
            # No limit of the client's would end it within minutes.
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdout, child.stderr):
                assert pipe is not None
                pipe.close()
            asked.gone.set()
    assert (out.decode().strip(), err.decode()) == ("interrupted []", "")
    assert list(folder.iterdir()) == []
