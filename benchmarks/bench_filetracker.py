"""The client of filetracker against its own server, and against ours; and our client beside it.

The client is the unmodified one from PyPI, in a process of its own; it makes a connection for each
call, and packs what it sends, so that much of the time is its own.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from benchmarks.gateways import LOCAL, Job, client, ours
from benchmarks.measure import MIB, Contender, Row, Table, compare, rate_table
from kvstore import DynamicURLStore
from tests.interop.peers import FILETRACKER, installed, running

PEER: Final = "filetracker"
_SMALL: Final = 1024

#: What the client's process does: a line for each job, and one back when it is done.
_CLIENT: Final = """
import os, sys
import filetracker.client

url, folder = sys.argv[1:]
client = filetracker.client.Client(local_store=None, remote_url=url)
target = os.path.join(folder, f"target-{os.getpid()}")

def put_small(count):
    for number in range(count):
        put(f"small-{number % 100}", 1, f"/small/{number}")

def get_small(count):
    for number in range(count):
        get(f"small-{number % 100}", f"/small/{number}")

def put(name, hint, key=None):
    path = os.path.join(folder, name)
    with open(path, "r+b") as file:  # what the server has already it would not store again
        file.write(os.urandom(16))
    client.put_file(key or f"/large/{name}", path, compress_hint=bool(int(hint)))

def get(name, key=None):
    client.get_file(key or f"/large/{name}", target)
    assert os.path.getsize(target) == os.path.getsize(os.path.join(folder, name))
    os.remove(target)  # a file that is cut off to be written anew has some disks wait

for line in sys.stdin:
    job, *arguments = line.split()
    if job in ("put", "get"):
        globals()[job](*arguments)
    else:
        globals()[job](int(arguments[0]))
    print("done", flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Small files to a turn.
    files: int = 1000
    rounds: int = 3
    #: Bytes of the large ones, a whole number of MiB.
    large: int = 256 * MIB
    large_rounds: int = 2
    #: Seconds after which a case begins no other round.
    seconds: float = 60.0


QUICK = Scale(files=30, rounds=2, large=4 * MIB, large_rounds=1, seconds=1.0)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    programs = installed("filetracker", FILETRACKER)
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        _write_sources(folder, scale.large)
        theirs = up.enter_context(_theirs(programs, folder / "theirs"))
        mine = up.enter_context(ours("filetracker", folder / "ours"))
        urls = {PEER: theirs, "kvstore": f"{mine}/filetracker"}
        clients = {
            name: up.enter_context(client(programs, _CLIENT, url, folder, cwd=folder))
            for name, url in urls.items()
        }
        own = up.enter_context(DynamicURLStore.discover(mine))
        yield rate_table(f"{scale.files} x 1 KiB", "files/s", PEER, _small(scale, clients, own))
        title = f"{scale.files} x 1 KiB, the same requests without the work of the client"
        yield rate_table(title, "files/s", PEER, _bare(scale, urls))
        title = f"{scale.large // MIB} MiB"
        yield rate_table(title, "MiB/s", PEER, _large(scale, clients, own, folder))


def _small(scale: Scale, clients: dict[str, Job], own: DynamicURLStore) -> Iterator[Row]:
    def put() -> None:
        for number in range(scale.files):
            own.set_data(f"small/{number}", os.urandom(_SMALL))

    def get() -> None:
        for number in range(scale.files):
            assert len(own.to_bytes(f"small/{number}")) == _SMALL

    for case, mine in (("put", put), ("get", get)):
        contenders = [*_contenders(clients, f"{case}_small {scale.files}"), _own(mine)]
        yield from compare(
            case,
            contenders,
            amount=scale.files,
            peer=PEER,
            rounds=scale.rounds,
            seconds=scale.seconds,
        )


def _bare(scale: Scale, urls: dict[str, str]) -> Iterator[Row]:
    """What the servers do of it: the requests of the client, each on a connection of its own."""

    def ask(url: str, method: str, name: str, body: bytes | None = None) -> bytes:
        parts = urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
            connection.request(method, f"{parts.path}{name}", body, {"Accept-Encoding": "gzip"})
            response = connection.getresponse()
            assert response.status == 200
            return response.read()

    def put(url: str) -> None:
        date = quote(formatdate())
        for number in range(scale.files):
            ask(url, "PUT", f"/files/bare/{number}?last_modified={date}", os.urandom(_SMALL))

    def get(url: str) -> None:
        for number in range(scale.files):
            assert ask(url, "GET", f"/files/bare/{number}")

    for case, do in (("put", put), ("get", get)):
        yield from compare(
            case,
            [Contender(name, functools.partial(do, url)) for name, url in urls.items()],
            amount=scale.files,
            peer=PEER,
            rounds=scale.rounds,
            seconds=scale.seconds,
        )


def _large(
    scale: Scale, clients: dict[str, Job], own: DynamicURLStore, folder: Path
) -> Iterator[Row]:
    def put(name: str) -> Callable[[], object]:
        return lambda: own.from_file(f"large/{name}", folder / name)

    def get(name: str) -> Callable[[], object]:
        return lambda: own.to_file(f"large/{name}", folder / "own")

    cases = [
        ("put random, packed", "put random 1", put("random")),
        ("put random, plain", "put random 0", put("random")),
        ("get random", "get random", get("random")),
        ("put text, packed", "put text 1", put("text")),
        ("get text", "get text", get("text")),
    ]
    for case, job, mine in cases:
        yield from compare(
            case,
            [*_contenders(clients, job), _own(mine)],
            amount=scale.large / MIB,
            peer=PEER,
            rounds=scale.large_rounds,
            seconds=scale.seconds,
        )


def _contenders(clients: dict[str, Job], job: str) -> list[Contender]:
    return [Contender(name, functools.partial(do, job)) for name, do in clients.items()]


def _own(turn: Callable[[], object]) -> Contender:
    return Contender("kvstore, its own client", turn)


def _write_sources(folder: Path, size: int) -> None:
    for number in range(100):
        (folder / f"small-{number}").write_bytes(os.urandom(_SMALL))
    lines = b"".join(b"%d\t%d\tsome text of a line\n" % (n, n * n % 7919) for n in range(40_000))
    with (folder / "random").open("wb") as random, (folder / "text").open("wb") as text:
        for start in range(0, size, MIB):
            random.write(os.urandom(MIB))
            text.write((lines[start % 65_521 :] + lines)[:MIB])


@contextlib.contextmanager
def _theirs(programs: Path, folder: Path) -> Iterator[str]:
    folder.mkdir()
    options = ("-D", "-l", "127.0.0.1", "-p", "0", "-d", str(folder))
    command = [str(programs / "filetracker-server"), *options]
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}
    with running(command, f"Listening at: {LOCAL}", cwd=folder, env=env) as match:
        yield match[1]
