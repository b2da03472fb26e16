"""The server against nginx: small requests by wrk, large bodies by curl, and many who watch.

On a machine of few cores client and server share these, so that a rate is as much about the client.
Beside it stands what of a processor the server took for each request; it is the fairer figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import kvstore
from benchmarks.measure import MIB, Spread, Table
from benchmarks.serving import ROOT

PEER: Final = "nginx"
_TWO: Final = "kvstore, token, 2 workers"
DATA: Final = os.urandom(1024)
#: Clock ticks of a second of processor time, in /proc.
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START: Final = 60.0

_NGINX: Final = """
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        root {folder}/root;
        location / {{
            dav_methods PUT DELETE;
            create_full_put_path on;
        }}
    }}
}}
"""

_SCRIPT: Final = """
local headers, n = {{ {headers} }}, 0
function request()
    n = n + 1
    return wrk.format("{method}", "/keys/{folder}/" .. (n % {keys}) .. "/data", headers, {body})
end
function response(status) if status > 204 then wrk.thread:stop() end end
"""
_BODY: Final = "string.rep('0123456789abcdef', 64)"
#: What is asked for, by its name.
_CASES: Final = {
    "GET": "GET of 1 KiB",
    "GET in turn": "GET of 1 KiB, of {keys:,} keys in turn",
    "PUT": "PUT of 1 KiB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    rounds: int = 5
    #: Seconds that each server is asked in a round.
    seconds: float = 2.0
    connections: int = 16
    #: Keys that are asked for in turn; more than what is kept of answers to small ones.
    keys: int = 20_000
    large: int = 1024 * MIB
    large_rounds: int = 3
    watchers: int = 500
    commits: int = 500


QUICK = Scale(
    rounds=1, seconds=1.0, keys=200, large=16 * MIB, large_rounds=1, watchers=50, commits=50
)


def missing() -> list[str]:
    """Return the programs that this needs and that are not there."""
    return [name for name in ("nginx", "wrk", "curl") if shutil.which(name) is None]


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    name: str
    url: str
    pid: int
    #: What it wants to see with each request.
    token: str | None = None

    def processor(self) -> float:
        """Return the seconds of a processor that it has taken, with all its processes."""
        total = 0
        for pid in _family(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as name, contextlib.ExitStack() as up:
        folder = Path(name)
        servers = [
            up.enter_context(_nginx(folder / "nginx", 1, scale.keys)),
            up.enter_context(_nginx(folder / "nginx2", 2, scale.keys)),
            up.enter_context(_ours(folder / "open", "kvstore", 1, keys=scale.keys)),
            up.enter_context(
                _ours(folder / "access", "kvstore, token", 1, keys=scale.keys, has_access=True)
            ),
            up.enter_context(
                _ours(folder / "two", _TWO, 2, keys=scale.keys, has_access=True),
            ),
        ]
        for server in servers:
            _put(server, "get", DATA)
        for case, title in _CASES.items():
            title = f"{title.format(keys=scale.keys)}, {scale.connections} connections of wrk"
            yield _small(title, case, scale, servers, folder)
        unread = _ours(
            folder / "unread", "kvstore, token, unread", 1, "--reads=plain", has_access=True
        )
        plain = up.enter_context(unread)
        yield _large(scale, [servers[0], servers[2], servers[3], plain], folder)
        yield _watched(scale, servers[2])


# -- small requests ------------------------------------------------------------------------


def _small(title: str, case: str, scale: Scale, servers: list[Server], folder: Path) -> Table:
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    for server in servers:
        _wrk(case, scale, server, folder, 0.5)
    for number in range(scale.rounds):
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            before = server.processor()
            count, rate = _wrk(case, scale, server, folder, scale.seconds)
            rates[server.name].append(rate)
            costs[server.name].append((server.processor() - before) / count * 1e6)
    head = ("", "requests/s", f"x {PEER}", "min..max", "CPU us/request", f"x {PEER}")
    return Table(title, head, tuple(_rows(rates, costs)), labels=1)


def _rows(
    rates: dict[str, list[float]], costs: dict[str, list[float]]
) -> Iterator[tuple[str, ...]]:
    for name, mine in rates.items():
        ratio = Spread.of([ours / peer for ours, peer in zip(mine, rates[PEER], strict=True)])
        cost = Spread.of([peer / ours for ours, peer in zip(costs[name], costs[PEER], strict=True)])
        yield (
            name,
            f"{median(mine):,.0f}",
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f}..{ratio.high:.2f}",
            f"{median(costs[name]):.0f}",
            f"{cost.median:.2f}",
        )


def _wrk(
    case: str, scale: Scale, server: Server, folder: Path, seconds: float
) -> tuple[int, float]:
    command = ["wrk", "-t1", f"-c{scale.connections}", f"-d{max(1, round(seconds))}s"]
    if case == "GET":
        for name, value in server.headers.items():
            command += ["-H", f"{name}: {value}"]
        command.append(f"{server.url}/keys/get/data")
    else:
        method, _, is_many = case.partition(" ")
        filled = _SCRIPT.format(
            headers=", ".join(f'["{name}"] = "{value}"' for name, value in server.headers.items()),
            method=method,
            folder="many" if is_many else "put",
            keys=scale.keys if is_many else 2000,
            body="nil" if is_many else _BODY,
        )
        script = folder / "wrk.lua"
        script.write_text(filled)
        command += ["-s", str(script), server.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if count is None or rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{server.name} failed: {said}")
    return int(count[1]), float(rate[1])


# -- large bodies --------------------------------------------------------------------------


def _large(scale: Scale, servers: list[Server], folder: Path) -> Table:
    source = folder / "source"
    with source.open("wb") as stream:
        block = os.urandom(16 * MIB)
        for _ in range(scale.large // len(block)):
            stream.write(block)
    body = []
    for case in ("up", "down"):
        spent: dict[str, list[float]] = {server.name: [] for server in servers}
        costs: dict[str, list[float]] = {server.name: [] for server in servers}
        for _ in range(scale.large_rounds):
            for server in servers:
                before, begun = server.processor(), time.perf_counter()
                _curl(server, source if case == "up" else None)
                spent[server.name].append(time.perf_counter() - begun)
                costs[server.name].append(server.processor() - before)
        for name, times in spent.items():
            ratio = [peer / ours for ours, peer in zip(times, spent[PEER], strict=True)]
            rate = f"{scale.large / MIB / median(times):,.0f}"
            spread = f"{min(ratio):.2f}..{max(ratio):.2f}"
            cost = f"{median(costs[name]):.2f}"
            body.append((case, name, rate, f"{median(ratio):.2f}", spread, cost))
    title = f"{scale.large // MIB} MiB by curl; kvstore computes the SHA-256 of what comes"
    head = ("", "", "MiB/s", f"x {PEER}", "min..max", "CPU s")
    return Table(title, head, tuple(body))


def _curl(server: Server, source: Path | None) -> None:
    command = ["curl", "-sS", "--fail", "-o", "/dev/null"]
    for name, value in server.headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [] if source is None else ["-T", str(source)]
    subprocess.run([*command, f"{server.url}/keys/large/data"], check=True)


# -- watchers ------------------------------------------------------------------------------


def _watched(scale: Scale, server: Server) -> Table:
    """One writer as fast as it can, and then one of fifty writes a second."""
    body = []
    for case, pause in (("at full speed", 0.0), ("50 a second", 0.02)):
        for count in (0, scale.watchers):
            before = server.processor()
            rate, delays = asyncio.run(_watch(server, count, scale.commits, pause))
            cost = (server.processor() - before) / scale.commits * 1e6
            delays.sort()
            told = [f"{delays[int(len(delays) * part)] * 1e3:.1f}" for part in (0.5, 0.99)] or [
                "",
                "",
            ]
            body.append((case, f"{count:,}", f"{rate:,.0f}", *told, f"{cost:,.0f}"))
    title = f"{scale.commits:,} commits of 1 KiB by one client, told to those who watch"
    head = ("", "watchers", "commits/s", "delay ms", "99 %", "CPU us/commit")
    return Table(title, head, tuple(body), labels=1)


async def _watch(
    server: Server, count: int, commits: int, pause: float
) -> tuple[float, list[float]]:
    sent: dict[int, float] = {}
    delays: list[float] = []
    first = _sequence(server)
    streams = [await _stream(server) for _ in range(count)]

    async def follow(reader: asyncio.StreamReader) -> None:
        seen = first
        while seen < first + commits:
            piece = await reader.read(1 << 16)
            now = time.perf_counter()
            for match in re.finditer(rb"(?:^|\n)id: (\d+)\n", piece):
                seen = int(match[1])
                if seen in sent:
                    delays.append(now - sent[seen])
            if not piece:
                raise RuntimeError("A watcher was left.")

    followers = [asyncio.create_task(follow(reader)) for reader, _ in streams]
    begun = time.perf_counter()

    def write() -> None:
        with contextlib.closing(_connection(server)) as connection:
            for number in range(commits):
                sent[first + number + 1] = time.perf_counter()
                connection.request("PUT", f"/keys/watched/{number % 100}/data", DATA)
                answer = connection.getresponse()
                answer.read()
                time.sleep(pause)

    await asyncio.to_thread(write)
    rate = commits / (time.perf_counter() - begun)
    await asyncio.wait_for(asyncio.gather(*followers), 60)
    for _, writer in streams:
        writer.close()
    return rate, delays or [0.0]


async def _stream(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.url.rpartition("//")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /changes HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def _sequence(server: Server) -> int:
    with contextlib.closing(_connection(server)) as connection:
        connection.request("GET", "/changes?limit=0")
        answer = connection.getresponse()
        answer.read()
        return int(answer.headers["Kvstore-Sequence"])


# -- servers -------------------------------------------------------------------------------


@contextlib.contextmanager
def _nginx(folder: Path, workers: int, keys: int) -> Iterator[Server]:
    for number in range(keys):
        file = folder / "root" / "keys" / "many" / str(number) / "data"
        file.parent.mkdir(parents=True)
        file.write_bytes(DATA)
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = _NGINX.format(folder=folder, port=port, workers=workers)
    if os.geteuid() == 0:  # or its workers would be somebody who may not write here
        text = f"user root;\n{text}"
    config = folder / "nginx.conf"
    config.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    name = PEER if workers == 1 else f"{PEER}, {workers} workers"
    with _running(command) as process:
        url = f"http://127.0.0.1:{port}"
        _until(lambda: _answers(port), process)
        yield Server(name, url, process.pid)


@contextlib.contextmanager
def _ours(
    folder: Path, name: str, workers: int, *more: str, keys: int = 0, has_access: bool = False
) -> Iterator[Server]:
    with kvstore.SQLiteStore(folder, user_tag="bench") as filled:
        filled.multiset_data((f"many/{number}" for number in range(keys)), [DATA] * keys)
    command = [sys.executable, "-m", "kvstore"]
    store = f"sqlite:{folder}"
    token = None
    if has_access:
        made = [*command, "token", "create", "bench", store]
        said = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        token = said.split()[-1]
    options = ["--port", "0", "--workers", str(workers), "--log", "none", *more]
    with _running([*command, "serve", store, *options]) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{name} did not start.")
        yield Server(name, url, process.pid, token)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(path.parent.name)


def _put(server: Server, key: str, data: bytes) -> None:
    with contextlib.closing(_connection(server)) as connection:
        connection.request("PUT", f"/keys/{key}/data", data, server.headers)
        status = connection.getresponse().status
    if status not in (201, 204):
        raise RuntimeError(f"{server.name} answers {status}.")


def _connection(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.url.rpartition("//")[2], timeout=60)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionError:
        return False
    return True


def _until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _START
    pause = threading.Event()
    while not holds():
        if time.monotonic() > end or process.poll() is not None:
            raise RuntimeError("The peer did not start.")
        pause.wait(0.05)
