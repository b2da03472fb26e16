from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import kvstore
from kvstore.errors import InvalidRequestError, StoreError
from kvstore.server import Settings, serve
from kvstore.server.running.processes import Processes, Worker
from kvstore.stores.memory import MemoryStore
from tests.server.sockets import Wire, ask
from tests.server.tus import DATA, begin, head, offset_of, patch

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="looks at processes where Linux tells of them"
)


class Command:
    """A server that was begun on the command line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = process.stdout.readline().strip()

    def workers(self) -> set[int]:
        return {pid for pid in children(self.process.pid) if b"spawn_main" in command_of(pid)}

    def refuses(self) -> bool:
        parts = urlsplit(self.url)
        try:
            socket.create_connection((str(parts.hostname), parts.port or 0), 10).close()
        except ConnectionError:
            return True
        return False


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children(parent: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent and status[0] != "Z":
                yield int(folder.name)


def until(holds: Callable[[], Any]) -> None:
    """Ask again and again; the time limit of the test is the end of it."""
    while not holds():
        time.sleep(0.02)  # leaves the processor to those who are waited for


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    words = ["serve", f"sqlite:{tmp_path / 'store'}", "--port", "0", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "kvstore", *words, "--log", "none", "--grace", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield Command(process)
        finally:
            process.kill()


def test_processes_of_one_server_share_everything_and_one_that_dies_is_replaced(
    command: Command, tmp_path: Path
) -> None:
    url, before = command.url, command.workers()
    assert len(before) == 2
    path = begin(url)
    for begun in range(0, len(DATA), 64_000):  # each on a connection of its own
        assert offset_of(url, path) == begun
        assert patch(url, path, begun, DATA[begun : begun + 64_000]).status == 204
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(command.workers() - before) == 1)
    for number in range(20):
        assert ask(url, "PUT", f"/keys/{number}/data", body=b"x").status == 201
    assert head(url, path).headers["Upload-Offset"] == str(len(DATA))
    with kvstore.open(f"sqlite:{tmp_path / 'store'}") as store:
        assert store.to_bytes("a") == DATA
        assert store.sequence() == 21
    lines = ask(url, "GET", "/metrics").body.decode().splitlines()
    counts = [line for line in lines if line.startswith("kvstore_requests_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counts if 'method="PUT"' in line) == 20
    with Wire(url) as wire:  # what is on its way is brought to its end
        wire.head("PUT", "/keys/b/data", "Content-Length: 200000", "Expect: 100-continue")
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        wire.send(bytes(100_000))
        command.process.send_signal(signal.SIGINT)
        until(command.refuses)
        wire.send(bytes(100_000))
        assert wire.read("PUT").status == 201
    _, complaints = command.process.communicate(timeout=60)
    assert command.process.returncode == 0
    assert complaints.startswith(f"The process {min(before)} ended with -9; the next begins in ")
    assert len(complaints.splitlines()) == 1


def test_a_second_signal_ends_it_at_once(command: Command) -> None:
    workers = command.workers()
    with Wire(command.url) as wire:
        wire.head("PUT", "/keys/a/data", "Content-Length: 200000", "Expect: 100-continue")
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        wire.send(bytes(100_000))
        command.process.terminate()
        until(command.refuses)
        command.process.terminate()
        assert command.process.wait(60) == 0
    assert not any(map(command_of, workers))


def test_workers_do_not_outlive_who_looks_after_them(command: Command) -> None:
    workers = command.workers()
    command.process.kill()
    until(lambda: not any(map(command_of, workers)))


# -- what cannot begin ---------------------------------------------------------------------


def test_a_store_of_one_process_has_one_worker() -> None:
    with pytest.raises(InvalidRequestError, match="2 processes cannot share <MemoryStore"):
        serve(MemoryStore(), Settings(port=0, workers=2))


def refuse(_worker: Worker, text: str) -> None:
    raise StoreError(text)


def leave(_worker: Worker, code: int) -> None:
    os._exit(code)


@pytest.mark.parametrize(
    ("work", "argument", "told"),
    [(refuse, "The disk is away.", "The disk is away."), (leave, 7, "one ended with 7")],
)
def test_workers_that_cannot_begin_end_the_server(
    work: Callable[..., None], argument: object, told: str
) -> None:
    ended: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        processes = Processes(2, work, (argument,), listener, grace=1, ended=ended.append)
        with pytest.raises(StoreError, match=f"cannot begin: .*{told}"):
            processes.run()
    assert len(ended) == 2


def test_what_cannot_be_taken_to_another_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(InvalidRequestError, match="can be pickled"):
            Processes(2, leave, (lambda: 0,), listener, grace=1, ended=print)
