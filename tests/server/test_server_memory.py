from __future__ import annotations

import contextlib
import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.commands import peak, started
from tests.server.sockets import ask

MIB = 1 << 20
SIZE = 256 * MIB
ROOT = Path(__file__).parents[2]

# A store that keeps what is known of data, and not the data: they are zeros when they are read.
SERVER = """
import hashlib, io, secrets, time
from kvstore.server import Settings, serve
from kvstore.store import Store
from kvstore.values import Record, Value
from kvstore.writes import Written, missing

class Zeros(io.RawIOBase):
    def __init__(self, size):
        self.left = size
    def readable(self):
        return True
    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        buffer[:count] = bytes(count)
        self.left -= count
        return count

class Hole(Store):
    def __init__(self):
        super().__init__()
        self.records = {}
    def _get(self, key):
        if key not in self.records:
            raise missing(key)
        record = self.records[key]
        return Value(record, lambda start, end: io.BufferedReader(Zeros(record.size), 1 << 16))
    def _records(self, prefix, after):
        return iter([self.records[key] for key in sorted(self.records) if key.startswith(prefix)])
    def _write(self, key, change):
        old = self.records.get(key)
        change.check(key, old)
        size, digest = 0, hashlib.sha256()
        for piece in change.data or ():
            size += len(piece)
            digest.update(piece)
        now, revision = time.time(), secrets.token_hex(8)
        self.records[key] = Record(
            key, change.new_metadata(old), size, now, now, revision=revision,
            digest="sha256:" + digest.hexdigest(),
        )
        return Written(revision, old is not None, {})
    def _delete(self, key, condition):
        return self.records.pop(key).metadata

serve(Hole(), Settings(port=0), ready=lambda url: print(url, flush=True))
"""


def pieces() -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(SIZE // MIB):
        yield piece


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("part", ["data", "value"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_data_pass_in_constant_memory(part: str, is_chunked: bool) -> None:
    head = b'{"metadata": {}}\n' if part == "value" else b""
    with started("-c", SERVER) as (url, pid):
        for _ in range(20):
            ask(url, "PUT", f"/keys/a/{part}", body=head + b"x" * 1000)
            ask(url, "GET", f"/keys/a/{part}")
        idle = peak(pid)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        with contextlib.closing(connection):
            body = (piece for source in ([head], pieces()) for piece in source if piece)
            headers = {} if is_chunked else {"Content-Length": str(len(head) + SIZE)}
            connection.request(
                "PUT", f"/keys/a/{part}", body=body, headers=headers, encode_chunked=is_chunked
            )
            with connection.getresponse() as response:
                assert response.read() == b""
                assert response.status == 204
            connection.request("GET", f"/keys/a/{part}")
            digest = hashlib.sha256()
            with connection.getresponse() as response:
                line = response.readline() if head else b""
                size = 0
                while piece := response.read(MIB):
                    size += len(piece)
                    digest.update(piece)
            assert (size, bool(line)) == (SIZE, bool(head))
        assert peak(pid) - idle < 64 * MIB
