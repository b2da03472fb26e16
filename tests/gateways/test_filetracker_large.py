"""Large files pass in constant memory, both ways."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks import filetracker
from tests.server.sockets import ask

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SIZE = 256 * MIB
DATE = "last_modified=Thu%2C%2001%20Jan%201970%2000%3A16%3A40%20-0000"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    words = ["serve", f"sqlite:{folder}", "--port", "0", "--gateway", "filetracker"]
    with subprocess.Popen(
        [sys.executable, "-m", "kvstore", *words, "--log", "none"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def peak(pid: int) -> int:
    """Most memory that a process has had at one time, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_256_mib_pass_in_constant_memory(tmp_path: Path) -> None:
    with served(tmp_path / "store") as (url, pid):
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
    scale = filetracker.Scale(files=2, rounds=1, large=MIB, large_rounds=1, seconds=0)
    small, bare, large = filetracker.tables(scale)
    assert [row[:2] for row in small.body[:2]] == [("put", "filetracker"), ("put", "kvstore")]
    assert len(bare.body) == 4
    assert len(large.body) == 15
