"""Requests as no library sends them: framing that smuggles, headers that overflow, other protocols.

Each case is sent as it stands over a connection of its own, which is then read to its end.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from tests.corpora import Entry, entries, raw
from tests.server.sockets import Answer, Wire

OLD = b"old value"
#: Statuses of 5xx by which a server refuses what was asked for, not ones of its failure.
REFUSALS = {501, 505}
LEAKS = (b"Traceback", b'File "', b".py", b"site-packages", str(Path(__file__).parents[2]).encode())


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    answers: list[Answer]
    received: bytes
    is_hanging: bool
    #: What the key of the request holds afterwards.
    value: bytes
    #: Whether the request that is hidden in the body of another one was obeyed.
    is_smuggled: bool


def test_every_case_of_the_corpus_ends_as_the_protocol_wants_it() -> None:
    cases = list(entries("raw_http"))
    # Connections that stay open are closed soon, and so all of them can be read to their end.
    limits = Limits(keep_alive=1, header_time=2, idle_time=2, drain_time=1)
    with MemoryStore() as store, serve_background(store, limits=limits) as url:
        store.multiset([entry["id"] for entry in cases], [OLD] * len(cases))
        with ThreadPoolExecutor(32) as pool:
            outcomes = list(pool.map(lambda entry: send(entry, url, store), cases))
        assert store.to_bytes(cases[0]["id"]) == OLD
    faults = {
        entry["id"]: found
        for entry, outcome in zip(cases, outcomes, strict=True)
        if (found := fault_of(entry, outcome))
    }
    assert len(cases) == 244
    assert faults == {}


def test_a_client_that_ends_its_side_gets_all_answers(url: str, store: MemoryStore) -> None:
    data = bytes(8 << 20)
    store.set_data("a", data)
    with Wire(url) as wire:
        for _ in range(3):
            wire.head("GET", "/keys/a/data")
        wire.socket.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: wire.socket.recv(1 << 20), b""))
    assert [answer.body == data for answer in answers_in(received, "GET")] == [True, True, True]


def test_blanks_behind_a_value_are_none_of_it(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", "Content-Length: 4 \t", "If-None-Match: * ")
        wire.send(b"data")
        assert wire.read("PUT").status == 201
    assert store.to_bytes("a") == b"data"


def test_only_an_old_client_may_name_no_host(url: str, store: MemoryStore) -> None:
    def status(*lines: str) -> int:
        with Wire(url) as wire:
            wire.send("\r\n".join([*lines, "", ""]).encode())
            return wire.read().status

    store.set_data("a", b"data")
    assert status("GET /keys/a/data HTTP/1.0") == 200
    assert status("GET /keys/a/data HTTP/1.0", "Host: evil.example") == 400
    assert status("DELETE /keys/a HTTP/1.0", "Origin: http://evil.example") == 403
    assert status("GET /keys/a/data HTTP/1.1") == 400


def test_an_old_client_gets_no_chunks(url: str, store: MemoryStore) -> None:
    with store.transaction("many"):
        for number in range(1500):
            store.set_metadata(f"{number}", {"text": "x" * 100})
    with Wire(url) as wire:
        wire.send(b"GET /query HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n")
        answer = wire.read()
    assert answer.headers["Transfer-Encoding"] is None
    assert int(answer.headers["Content-Length"]) == len(answer.body) > 1 << 17
    assert len(answer.body.splitlines()) == 1500
    with Wire(url) as wire:
        wire.send(b"GET /changes HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        assert "HTTP/1.0" in wire.read().problem["detail"]


def fault_of(entry: Entry, outcome: Outcome) -> str:
    """What is wrong with what came of a case; nothing if it is as it should be."""
    statuses = [answer.status for answer in outcome.answers]
    told = f"{entry['level']} {entry['expect']}, got {statuses}"
    if outcome.is_hanging or 408 in statuses:
        return f"waits for what does not come: {told}"
    if any(status >= 500 and status not in REFUSALS for status in statuses):
        return f"the server failed: {told}"
    if any(leak in outcome.received for leak in LEAKS):
        return f"tells of the inside: {outcome.received!r:.300}"
    for answer in outcome.answers:
        if answer.status >= 400 and not is_problem(answer):
            return f"{answer.status} is no problem document: {outcome.received!r:.300}"
    if outcome.is_smuggled and not entry.get("canary_ok"):
        return f"the hidden request was obeyed: {told}"
    if entry.get("keeps") and outcome.value != OLD:
        return f"half a value was stored: {outcome.value!r:.50}"
    wanted = entry.get("answers", 1)
    match entry["expect"]:
        case "ok":
            is_good = len(statuses) == wanted and all(status < 300 for status in statuses)
        case "reject":
            is_good = len(statuses) <= 1 and all(status >= 400 for status in statuses)
        case _:  # "oneclose" and "either"
            is_good = len(statuses) <= wanted
    return "" if is_good else told


def is_problem(answer: Answer) -> bool:
    """Whether an answer tells of an error as all of them do."""
    fields = {
        "Content-Type": "application/problem+json",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    is_told = all(answer.headers[name] == value for name, value in fields.items())
    # The answer to HEAD has no body.
    return is_told and (not answer.body or json.loads(answer.body)["status"] == answer.status)


def send(entry: Entry, url: str, store: MemoryStore) -> Outcome:
    """Send a case, and read what comes until the server closes the connection."""
    parts = urlsplit(url)
    data = request_of(entry, parts.netloc)
    received, is_hanging = bytearray(), False
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        # It is reset where the server does not read all of what is far too much.
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            if entry.get("half_close"):
                connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except TimeoutError:
            is_hanging = True
        except ConnectionError:
            pass
    method = data.lstrip(b"\r\n").partition(b" ")[0].decode("latin-1")
    return Outcome(
        list(answers_in(bytes(received), method)),
        bytes(received),
        is_hanging,
        store.to_bytes(entry["id"]),
        bool(list(store.query_keys(prefix=f"canary-{entry['id']}"))),
    )


def request_of(entry: Entry, host: str) -> bytes:
    """The bytes of a case, with names of this server and lengths where it leaves them open."""
    name = entry["id"].encode()
    data = raw(entry)
    for placeholder, text in {
        b"{HOST}": host.encode(),
        b"{PATH}": b"/keys/%b/data" % name,
        b"{CANARY}": b"/keys/canary-%b/data" % name,
    }.items():
        data = data.replace(placeholder, text)
    body = data.partition(b"\r\n\r\n")[2]
    chunk = body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    return data.replace(b"{SMHEX}", b"%x" % len(chunk)).replace(b"{LEN}", b"%d" % len(body))


def answers_in(received: bytes, method: str) -> Iterator[Answer]:
    """The answers in what was received, of which the first one is to *method*."""
    stream = io.BytesIO(received)
    while stream.tell() < len(received):
        response = http.client.HTTPResponse(_Received(stream), method=method)  # type: ignore[arg-type]
        response.begin()
        yield Answer(response.status, response.headers, response.read())
        method = "PUT"


class _Received:
    """What ``http.client`` asks of a socket, over bytes that are there."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> Any:
        return _Unclosed(self._stream)


class _Unclosed(io.RawIOBase):
    """Ends with one answer, the stream does not."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(buffer)
