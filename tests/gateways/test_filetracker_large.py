"""Large files pass in constant memory, both ways."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks import bench_filetracker
from tests.server.commands import peak, serving
from tests.server.sockets import ask

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SIZE = 256 * MIB
DATE = "last_modified=Thu%2C%2001%20Jan%201970%2000%3A16%3A40%20-0000"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_256_mib_pass_in_constant_memory(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--gateway", "filetracker") as (url, pid):
        for turn in range(20):
            ask(url, "PUT", f"/filetracker/files/x?{DATE}", body=b"x" * (1000 + turn))
            ask(url, "GET", "/filetracker/files/x", "Accept-Encoding: gzip")
        idle = peak(pid)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        with contextlib.closing(connection):

            def put(body: bytes, headers: dict[str, str]) -> None:
                path = f"/filetracker/files/large?{DATE}"
                connection.request("PUT", path, body=body, headers=headers)
                with connection.getresponse() as response:
                    assert (response.status, response.read()) == (200, b"")

            def got(coding: str) -> str | None:
                headers = {"Accept-Encoding": coding}
                connection.request("GET", "/filetracker/files/large", headers=headers)
                with connection.getresponse() as response:
                    used = response.headers["Content-Encoding"]
                    decoder = zlib.decompressobj(31) if used == "gzip" else None
                    size, digest = 0, hashlib.sha256()
                    while piece := response.read(MIB):
                        piece = piece if decoder is None else decoder.decompress(piece)
                        size += len(piece)
                        digest.update(piece)
                assert size == SIZE
                assert digest.hexdigest() == response.headers["SHA256-Checksum"]
                return used

            packed = gzip.compress(bytes(MIB)) * (SIZE // MIB)  # of many members
            put(packed, {"Content-Encoding": "gzip", "Logical-Size": str(SIZE)})
            assert got("gzip") == "gzip"
            assert got("identity") is None
        assert peak(pid) - idle < 64 * MIB


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_benchmark_runs() -> None:
    scale = bench_filetracker.Scale(files=2, rounds=1, large=MIB, large_rounds=1, seconds=0)
    small, bare, large = bench_filetracker.tables(scale)
    assert [row[:2] for row in small.body[:2]] == [("put", "filetracker"), ("put", "kvstore")]
    assert len(bare.body) == 4
    assert len(large.body) == 15
