"""One large value to and from a file against curl, on the same server and URLs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import MIB, Contender, Row, Table, compare, rate_table
from benchmarks.serving import running_server
from kvstore import DynamicURLStore, Policy

PEER: Final = "curl"
#: Seconds that any transfer may take.
PATIENCE: Final = 300.0
#: Uploads go in one request, as curl's do, instead of being resumable.
PLAIN: Final = Policy(resumable_size=1 << 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    size: int = 1024 * MIB
    rounds: int = 5
    seconds: float = 90.0


QUICK = Scale(size=16 * MIB, rounds=1, seconds=1.0)


def is_possible() -> bool:
    """Tell whether there is a curl."""
    return shutil.which("curl") is not None


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    with (
        tempfile.TemporaryDirectory(prefix="kvstore-bench-") as name,
        running_server("memory", Path(name, "store")) as server,
    ):
        folder = Path(name)
        data = os.urandom(min(scale.size, 64 * MIB))
        with Path(folder, "source").open("wb") as stream:
            for _ in range(scale.size // len(data)):
                stream.write(data)
        title = f"{scale.size // MIB} MiB between a server in memory and a file"
        yield rate_table(title, "MiB/s", PEER, _rows(scale, server.url, folder))


def _rows(scale: Scale, url: str, folder: Path) -> Iterator[Row]:
    source, target = folder / "source", folder / "target"
    data_url = f"{url}/keys/large/data"
    urls = (f"{url}/keys", f"{url}/query")
    with (
        DynamicURLStore(*urls, policy=PLAIN) as checked,
        DynamicURLStore(*urls, policy=PLAIN, verify_digests=False) as plain,
    ):
        checked.from_file("large", source)

        def curl_and_hash() -> None:
            _curl("-o", str(target), data_url)
            with target.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")

        cases = {
            "down": [
                Contender(PEER, lambda: _curl("-o", str(target), data_url)),
                Contender("kvstore", lambda: plain.to_file("large", target)),
                Contender("kvstore, SHA-256", lambda: checked.to_file("large", target)),
                Contender("curl, then SHA-256", curl_and_hash),
            ],
            "up": [
                Contender(PEER, lambda: _curl("-T", str(source), data_url)),
                Contender("kvstore", lambda: plain.from_file("large", source)),
                Contender("kvstore, SHA-256", lambda: checked.from_file("large", source)),
            ],
        }
        for case, contenders in cases.items():
            yield from compare(
                case,
                contenders,
                amount=scale.size / MIB,
                peer=PEER,
                rounds=scale.rounds,
                seconds=scale.seconds,
            )


def _curl(*arguments: str) -> None:
    command = ["curl", "--silent", "--show-error", "--fail", *arguments]
    subprocess.run(command, check=True, timeout=PATIENCE)
