"""Memory that client and server take while much data goes up and comes down.

Client and server are processes of their own, new for each transfer. Each is first warmed up by a
small value; then its peak is reset, and what counts is how far it rises. Needs Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import MIB, Table
from benchmarks.serving import ROOT, running_server
from kvstore import DynamicURLStore

KEY: Final = "bench/large"
TRANSFERS: Final = {
    "from generator": "up, from a generator",
    "from file": "up, from a file",
    "to file": "down, to_file",
    "to stream": "down, streamed",
}
#: Seconds that one transfer may take.
PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to transfer, in bytes."""

    size: int = 1 << 30


QUICK = Scale(size=1 << 28)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure all transfers, one table."""
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        source = Path(folder, "source")
        with source.open("wb") as stream:
            for piece in _pieces(scale.size):
                stream.write(piece)
        body: list[tuple[str, ...]] = []
        for transfer, title in TRANSFERS.items():
            for side, (idle, peak) in _measured(transfer, scale.size, Path(folder)).items():
                cells = (f"{amount / MIB:,.1f}" for amount in (idle, peak, peak - idle))
                body.append((title, side, *cells))
        title = f"memory while {scale.size // MIB:,} MiB pass through (folder behind the server)"
        yield Table(title, ("", "", "idle MiB", "peak MiB", "above idle"), tuple(body))


def is_possible() -> bool:
    """Tell whether the system lets a process reset its peak."""
    try:
        Watch(os.getpid())
    except OSError:
        return False
    return True


class Watch:
    """The memory in use (resident set) of a process since now, in bytes.

    Raises:
        OSError: the system does not tell it.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak is what is now in use
        self.idle = self.peak()

    def peak(self) -> int:
        """Return the most that was in use at a time."""
        for line in self._status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise OSError(f"{self._status} tells no peak.")


def _measured(transfer: str, size: int, folder: Path) -> dict[str, tuple[int, int]]:
    """Return idle and peak of both sides; they share *folder*, so that what went up comes down."""
    with running_server("folder", folder / "store") as server:
        command = [sys.executable, "-m", "benchmarks.bench_memory"]
        arguments = [server.url, str(server.pid), transfer, str(size), str(folder)]
        done = subprocess.run(
            [*command, *arguments], stdout=subprocess.PIPE, cwd=ROOT, timeout=PATIENCE, check=True
        )
    sides = json.loads(done.stdout)
    return {side: (idle, peak) for side, (idle, peak) in sides.items()}


def _client(url: str, server: int, transfer: str, size: int, folder: Path) -> None:
    """Do one transfer as the client, and print what it took on both sides."""
    with DynamicURLStore.discover(url) as store:
        store.set_data("bench/small", bytes(1024))
        store.to_bytes("bench/small")
        watches = {"client": Watch(os.getpid()), "server": Watch(server)}
        _transfer(store, transfer, size, folder)
        peaks = {side: (watch.idle, watch.peak()) for side, watch in watches.items()}
    print(json.dumps(peaks))


def _transfer(store: DynamicURLStore, transfer: str, size: int, folder: Path) -> None:
    if transfer == "from generator":
        store.set_data(KEY, _pieces(size))
    elif transfer == "from file":
        store.from_file(KEY, folder / "source")
    elif transfer == "to file":
        store.to_file(KEY, folder / "copy")
        came = (folder / "copy").stat().st_size
        assert came == size, came
    else:
        came = sum(len(piece) for piece in store.get(KEY).iterdata())
        assert came == size, came


def _pieces(size: int) -> Iterator[bytes]:
    block = os.urandom(MIB)
    for start in range(0, size, MIB):
        yield block[: size - start]


if __name__ == "__main__":
    _client(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
