"""What a client makes of a network that fails: kvstore and its peers on the same scripted server.

One value is read, or written, once in each cell, on a server of its own. It answers the requests
one after another as the script of the fault says. It honours ``Range`` and ``If-Range``, and its
ETag is strong, so that who breaks off may go on where he was. Each client is used as it comes;
only the time-outs to connect and to wait for bytes are the same for all.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from random import Random
from socketserver import ThreadingTCPServer
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from benchmarks.measure import MIB, Table
from kvstore import DynamicURLStore, Policy

KEY: Final = "value"
PATH: Final = f"{KEY}/data"
ETAG: Final = '"1"'
#: The part of the whole value after which an answer breaks off: an eighth.
PART: Final = 8
#: Seconds that a body stalls, unless the client gives up before.
STALL: Final = 12.0
#: Seconds that what was sent has to arrive, before a reset of the connection may overtake it.
ARRIVAL: Final = 0.1
#: Seconds after which the server gives up a connection on which nothing comes or goes.
PATIENCE: Final = 60.0


class Reply(Enum):
    """What the server does with one request."""

    WHOLE = auto()
    CUT = auto()
    RESET_IN_BODY = auto()
    RESET = auto()
    STALL = auto()
    UNAVAILABLE = auto()
    TOO_MANY = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """A script: the replies to the first requests; the last of them is for all that follow."""

    replies: tuple[Reply, ...]
    method: str = "GET"


_UNAVAILABLE = (Reply.UNAVAILABLE, Reply.UNAVAILABLE, Reply.WHOLE)

FAULTS: Final = {
    "none": Fault((Reply.WHOLE,)),
    "first cut": Fault((Reply.CUT, Reply.WHOLE)),
    "every cut": Fault((Reply.CUT,)),
    "RST in body": Fault((Reply.RESET_IN_BODY, Reply.WHOLE)),
    "RST, no reply": Fault((Reply.RESET, Reply.WHOLE)),
    "stall": Fault((Reply.STALL, Reply.WHOLE)),
    "503 503 200": Fault(_UNAVAILABLE),
    "429, 1 s": Fault((Reply.TOO_MANY, Reply.WHOLE)),
    "PUT 503 503": Fault(_UNAVAILABLE, "PUT"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Bytes of the value.
    size: int = MIB
    #: Seconds that every client waits to connect, and for bytes.
    timeout: float = 5.0
    faults: tuple[str, ...] = tuple(FAULTS)


QUICK = Scale(
    size=1 << 16,
    timeout=1.0,
    faults=("first cut", "RST, no reply", "stall", "503 503 200", "PUT 503 503"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one cell."""

    #: ``ok``: the right bytes arrived; ``error``: an exception; ``WRONG``: others did,
    #: and nobody was told.
    verdict: str
    #: How many the server saw.
    requests: int
    seconds: float

    def __str__(self) -> str:
        took = f", {self.seconds:.1f} s" if self.seconds >= 1 else ""
        return f"{self.verdict} n={self.requests}{took}"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    data = Random(scale.size).randbytes(scale.size)
    body: list[tuple[str, ...]] = []
    # Most of the time is spent waiting, so that the cells of a row may be under way together.
    with ThreadPoolExecutor(len(scale.faults)) as executor:
        for name, client in CLIENTS.items():
            if client.is_installed():

                def cell(fault: str, client: Client = client) -> str:
                    return str(outcome(client, FAULTS[fault], data, scale.timeout))

                body.append((name, *executor.map(cell, scale.faults)))
    title = (
        f"{scale.size >> 10} KiB, time-outs of {scale.timeout:g} s; n: requests that the server "
        "saw; seconds from 1 on"
    )
    yield Table(title, ("", *scale.faults), tuple(body), labels=1 + len(scale.faults))


def missing() -> list[str]:
    """Return the names of the clients that are not installed."""
    return [name for name, client in CLIENTS.items() if not client.is_installed()]


# -- the clients -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Client:
    """One way to read and to write a value; each call is a new user of the library."""

    #: Takes the URL above all values, and the time-out; returns the value.
    get: Callable[[str, float], bytes]
    #: Takes the value besides.
    put: Callable[[str, float, bytes], object]
    #: Modules without which it does not work.
    needs: tuple[str, ...] = ()

    def is_installed(self) -> bool:
        """Whether all that it needs is there; nothing is imported."""
        return all(find_spec(name) is not None for name in self.needs)


def outcome(client: Client, fault: Fault, data: bytes, timeout: float) -> Outcome:
    """Let *client* read or write *data* on a server that fails so."""
    with FaultyServer(fault.replies, data) as server:
        begun = time.monotonic()
        try:
            if fault.method == "PUT":
                client.put(server.url, timeout, data)
                came = server.stored
            else:
                came = client.get(server.url, timeout)
        except Exception:  # noqa: BLE001 - each library has its own, and that there is one counts
            verdict = "error"
        else:
            verdict = "ok" if came == data else "WRONG"
        return Outcome(verdict, server.requests, time.monotonic() - begun)


def _store(url: str, timeout: float) -> DynamicURLStore:
    policy = Policy(connect_timeout=timeout, read_timeout=timeout, write_timeout=timeout)
    return DynamicURLStore(url, url, policy=policy)


def _store_get(url: str, timeout: float) -> bytes:
    with _store(url, timeout) as store, store.get_data(KEY) as stream:
        return stream.read()


def _store_put(url: str, timeout: float, data: bytes) -> None:
    with _store(url, timeout) as store:
        store.set_data(KEY, data)


def _sending(send: Callable[..., bytes], *needs: str) -> Client:
    """Return the client that has one function for all methods."""
    return Client(partial(send, "GET"), partial(send, "PUT"), needs)


def _requests(retries: int | Retry) -> Client:
    def send(method: str, url: str, timeout: float, data: bytes | None = None) -> bytes:
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=retries))
            answer = session.request(method, f"{url}/{PATH}", data=data, timeout=timeout)
            answer.raise_for_status()
            return answer.content

    return _sending(send)


def _httpx_send(method: str, url: str, timeout: float, data: bytes | None = None) -> bytes:
    import httpx

    with httpx.Client(timeout=timeout) as client:
        answer = client.request(method, f"{url}/{PATH}", content=data)
        return answer.raise_for_status().content


def _obstore(url: str, timeout: float) -> Any:
    from obstore.store import HTTPStore

    wait = timedelta(seconds=timeout)
    options: Any = {"allow_http": True, "connect_timeout": wait, "read_timeout": wait}
    return HTTPStore(url, client_options=options)


def _obstore_get(url: str, timeout: float) -> bytes:
    return bytes(_obstore(url, timeout).get(PATH).bytes())


def _obstore_put(url: str, timeout: float, data: bytes) -> None:
    _obstore(url, timeout).put(PATH, data)


@contextlib.contextmanager
def _fsspec(timeout: float) -> Iterator[Any]:
    import aiohttp
    import fsspec.asyn

    patience = aiohttp.ClientTimeout(connect=timeout, sock_read=timeout)
    files = fsspec.filesystem("http", client_kwargs={"timeout": patience}, skip_instance_cache=True)
    try:
        yield files
    finally:
        # Its own way gives up after 0.1 s, and then fails.
        if files._session is not None:
            fsspec.asyn.sync(files.loop, files._session.close)


def _fsspec_get(url: str, timeout: float) -> bytes:
    with _fsspec(timeout) as files:
        data: bytes = files.cat_file(f"{url}/{PATH}")
        return data


def _fsspec_put(url: str, timeout: float, data: bytes) -> None:
    with _fsspec(timeout) as files:
        files.pipe_file(f"{url}/{PATH}", data)


CLIENTS: Final = {
    "kvstore": Client(_store_get, _store_put),
    "requests": _requests(0),
    "requests, Retry(4)": _requests(Retry(4, status_forcelist=(429, 503), backoff_factor=0.1)),
    "httpx": _sending(_httpx_send, "httpx"),
    "obstore": Client(_obstore_get, _obstore_put, ("obstore",)),
    "fsspec": Client(_fsspec_get, _fsspec_put, ("fsspec", "aiohttp")),
}


# -- the server ------------------------------------------------------------------------------


class FaultyServer(ThreadingTCPServer):
    """A server of one value on a free port of the loopback. Leaving it ends all connections.

    Args:
        replies: what is done with the requests, in their order; the last with all that follow.
            What is not about the value is not found, and does not count.
        data: the value to read.
    """

    def __init__(self, replies: Sequence[Reply], data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.data = data
        #: What was last written.
        self.stored: bytes | None = None
        self.requests = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/keys"
        self._replies = replies
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def next_reply(self) -> Reply:
        """Count a request, and return what to do with it."""
        with self._lock:
            self.requests += 1
            return self._replies[min(self.requests, len(self._replies)) - 1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that gave up is no failure
            super().handle_error(request, client_address)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self._thread.join()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.server_close()  # waits for the threads


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE
    server: FaultyServer

    def do_GET(self) -> None:
        if reply := self._begun():
            self._send_value(reply)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self._begun():
            self.server.stored = data
            self._send_head(204, ETag=ETAG)

    def log_message(self, *args: Any) -> None:
        pass

    def _begun(self) -> Reply | None:
        """Return what to do about the value; None if the answer is given already."""
        if not self.path.endswith(f"/{PATH}"):
            self._send_head(404, Content_Length="0")
            return None
        reply = self.server.next_reply()
        if reply is Reply.RESET:
            self._reset()
        elif reply is Reply.UNAVAILABLE:
            self._send_head(503, Content_Length="0")
        elif reply is Reply.TOO_MANY:
            self._send_head(429, Content_Length="0", Retry_After="1")
        else:
            return reply
        return None

    def _send_value(self, reply: Reply) -> None:
        data = self.server.data
        fields = {"ETag": ETAG, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(data)
        if asked and self.headers.get("If-Range", ETAG) == ETAG and int(asked[1]) < stop:
            start, stop = int(asked[1]), min(stop, int(asked[2] or stop) + 1)
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        status = 206 if "Content-Range" in fields else 200
        self._send_head(status, Content_Length=str(stop - start), **fields)
        if reply is Reply.WHOLE:
            self.wfile.write(data[start:stop])
            return
        middle = min(stop, start + len(data) // PART)
        self.wfile.write(data[start:middle])
        if reply is Reply.STALL and not self._is_given_up():
            self.wfile.write(data[middle:stop])
        elif reply is Reply.RESET_IN_BODY:
            time.sleep(ARRIVAL)
            self._reset()
        self.close_connection = middle < stop

    def _send_head(self, status: int, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _is_given_up(self) -> bool:
        """Wait until the client closes the connection; False if it did not."""
        self.connection.settimeout(STALL)
        try:
            return not self.connection.recv(1)
        except TimeoutError:
            return False

    def _reset(self) -> None:
        """End the connection with RST, as a crashed machine does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True
