"""The client of the LabInform datasafe against its own server, and against ours.

The client is the unmodified one from PyPI, in a process of its own. It packs and unpacks archives
in memory, and so much of the time is its own; a second table has the same requests without it.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.gateways import LOCAL, client, ours
from benchmarks.measure import MIB, Contender, Table, compare, rate_table
from benchmarks.serving import ROOT
from kvstore.manifest import FolderFiles, build, write
from tests.interop.peers import DATASAFE, installed, running

PEER: Final = "datasafe"
_FAMILY: Final = "42.1001/ds/exp/sa/42/cwepr"

#: What the client's process does: a line for each job, and one back when it is done.
_CLIENT: Final = """
import glob, os, shutil, sys
from datasafe.client import HTTPClient

url, folder = sys.argv[1:]
client = HTTPClient()
client.server_url = url
loi = ""

def upload():
    global loi
    loi = client.create("42.1001/ds/exp/sa/42/cwepr")
    assert client.upload(loi, path=folder) == {"data": True, "all": True}

def update():
    with open(os.path.join(folder, "run.dat"), "r+b") as file:
        file.write(os.urandom(16))
    os.remove(os.path.join(folder, "MANIFEST.yaml"))
    assert client.update(loi, path=folder) == {"data": True, "all": True}

def download():
    shutil.rmtree(client.download(loi))

for line in sys.stdin:
    globals()[line.strip()]()
    for litter in glob.glob(os.path.join(folder, "dataset.zip")):  # else the next upload has it
        os.remove(litter)
    print("done", flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Bytes of the dataset, a whole number of MiB.
    size: int = 64 * MIB
    rounds: int = 3
    #: Seconds after which a case begins no other round.
    seconds: float = 90.0


QUICK = Scale(size=2 * MIB, rounds=2, seconds=1.0)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    programs = installed("datasafe", DATASAFE)
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        theirs = up.enter_context(_theirs(programs, folder / "theirs"))
        mine = up.enter_context(ours("datasafe", folder / "ours"))
        urls = {PEER: f"{theirs}/", "kvstore": f"{mine}/datasafe/"}
        clients = {
            name: up.enter_context(client(programs, _CLIENT, url, source, cwd=source.parent))
            for name, url in urls.items()
            for source in [_dataset(folder / name / "in", scale)]
        }
        title = f"One dataset of {scale.size // MIB} MiB"
        jobs = ("upload", "download", "update")
        rows = [
            row
            for job in jobs
            for row in compare(
                job,
                [Contender(name, functools.partial(do, job)) for name, do in clients.items()],
                amount=scale.size / MIB,
                peer=PEER,
                rounds=scale.rounds,
                seconds=scale.seconds,
            )
        ]
        yield rate_table(f"{title}, by its client", "MiB/s", PEER, rows)
        archive = _packed(folder / PEER / "in")
        bare = {name: _Bare(url, archive) for name, url in urls.items()}
        rows = [
            row
            for job in jobs
            for row in compare(
                job,
                [Contender(name, getattr(one, job)) for name, one in bare.items()],
                amount=scale.size / MIB,
                peer=PEER,
                rounds=scale.rounds,
                seconds=scale.seconds,
            )
        ]
        yield rate_table(f"{title}, the requests alone", "MiB/s", PEER, rows)


class _Bare:
    """Sends an archive that is packed already, and unpacks nothing."""

    def __init__(self, url: str, archive: bytes) -> None:
        self._parts = urlsplit(url)
        self._archive = archive
        self._loi = ""

    def upload(self) -> None:
        self._loi = self._ask("POST", _FAMILY).decode()
        assert b"true" in self._ask("PUT", self._loi, self._archive)

    def update(self) -> None:
        assert b"true" in self._ask("PATCH", self._loi, self._archive)

    def download(self) -> None:
        assert len(self._ask("GET", self._loi)) > len(self._archive) // 2

    def _ask(self, method: str, loi: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._parts.netloc, timeout=100)
        with contextlib.closing(connection):
            # Their server takes what has the type of a form for one.
            headers = {"Content-Type": "application/zip"}
            connection.request(method, f"{self._parts.path}api/{loi}", body, headers)
            with connection.getresponse() as response:
                assert response.status in (200, 201), response.read()
                return response.read()


def _dataset(folder: Path, scale: Scale) -> Path:
    folder.mkdir(parents=True)
    with (folder / "run.dat").open("wb") as file:
        for _ in range(scale.size // MIB):
            file.write(os.urandom(MIB))
    (folder / "run.info").write_text("cwEPR Info file - v. 0.1.4 (2020-01-21)\n")
    return folder


def _packed(folder: Path) -> bytes:
    write(FolderFiles(folder), build(FolderFiles(folder)))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return target.getvalue()


@contextlib.contextmanager
def _theirs(programs: Path, folder: Path) -> Iterator[str]:
    (folder / "datasafe_root").mkdir(parents=True)
    command = [programs / "python", ROOT / "tests" / "interop" / "datasafe_server.py"]
    env = {"TMPDIR": str(folder), "PYTHONWARNINGS": "ignore"}
    with running(command, f"serving at {LOCAL}", cwd=folder, env=env) as match:
        yield match[1]
