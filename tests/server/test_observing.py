"""What a server tells of itself: names of requests, lines in the log, health and numbers."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import queue
import re
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount

from kvstore.errors import InvalidRequestError
from kvstore.server import Limits, create_app, serve_background
from kvstore.server.access.callers import Access, Authenticator, Caller
from kvstore.server.observing import health
from kvstore.server.observing.logs import JsonLines, TextLines, logging_to
from kvstore.server.observing.metrics import metrics_folder, process_ended
from kvstore.server.observing.observer import ACCESS, FIELDS
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.values import Record
from tests.server.events import Stream
from tests.server.sockets import Answer, Wire, ask

OURS = re.compile(r"[0-9a-f]+-[0-9a-f]+")


class Lines(logging.Handler):
    """The lines about requests, as records."""

    def __init__(self) -> None:
        super().__init__()
        self._records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self._records.put(record)

    def next(self) -> logging.LogRecord:
        return self._records.get(timeout=20)

    def told(self) -> dict[str, Any]:
        record = self.next()
        return {name: record.__dict__[name] for name in FIELDS}

    def are_all(self) -> bool:
        return self._records.empty()


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger(ACCESS), Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(before)
    logger.removeHandler(handler)


def numbers(url: str, *lines: str) -> dict[str, float]:
    """The metrics of a server, each by its name and labels."""
    answer = ask(url, "GET", "/metrics", *lines)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


# -- names of requests ---------------------------------------------------------------------


def test_each_answer_names_its_request_and_so_do_problems_and_lines(url: str, lines: Lines) -> None:
    def named(answer: Answer) -> str:
        (name,) = answer.headers.get_all("X-Request-Id") or []
        told = lines.told()
        assert (told["request_id"], told["status"]) == (name, answer.status)
        if "problem" in answer.headers.get("Content-Type", ""):
            assert answer.problem["request_id"] == name
        return str(name)

    mine = "X-Request-Id: A.b_c-1"
    assert named(ask(url, "PUT", "/keys/a/data", mine, body=b"abc")) == "A.b_c-1"
    made = [
        named(ask(url, method, target))
        for method, target in [
            *(("GET", "/keys/a/data"), ("GET", "/keys/b/data"), ("PATCH", "/keys/a/data")),
            *(("GET", "/nothing"), ("GET", "/"), ("OPTIONS", "/query"), ("GET", "/keys/%00/data")),
        ]
    ]
    odd = ["", "a b", "x" * 65, "ä", "a;b", f"a\r\n{mine}"]
    made += [named(ask(url, "GET", "/query", f"X-Request-Id: {line}")) for line in odd]
    assert len(set(made)) == len(made)
    assert all(OURS.fullmatch(name) for name in made)
    assert named(ask(url, "GET", "/keys/b/data", mine)) == "A.b_c-1"
    assert named(ask(url, "GET", "/query", mine, "Content-Length: x")) == "A.b_c-1"


def test_what_is_refused_before_the_application_sees_it_is_told_too(url: str, lines: Lines) -> None:
    refused = {
        b"GARBAGE\r\n\r\n": (400, "-", ""),
        b"GET /a?b HTTP/1.1\r\nX-Request-Id: mine\r\nA: b\r\nno field\r\n\r\n": (400, "GET", "/a"),
        b"GET /old HTTP/2.0\r\n\r\n": (505, "GET", "/old"),
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n": (414, "GET", "/" + "x" * 8191),
    }
    for request, (status, method, path) in refused.items():
        with Wire(url) as wire:
            wire.send(request)
            answer = wire.read()
        told = lines.told()
        assert (answer.status, told["status"], told["outcome"]) == (status, status, "refused")
        assert (told["method"], told["path"]) == (method, path)
        name = told["request_id"]
        assert answer.problem["request_id"] == answer.headers["X-Request-Id"] == name
        assert name == "mine" if b"mine" in request else OURS.fullmatch(name)
    with Wire(url) as wire:  # while the application reads it
        wire.head("PUT", "/keys/a/data", "Transfer-Encoding: chunked")
        wire.send(b"1\r\nx\r\nno number\r\n")
        answer = wire.read()
    told = lines.told()
    assert (answer.status, told["status"], told["outcome"]) == (400, 400, "refused")
    assert answer.headers["X-Request-Id"] == told["request_id"]
    assert lines.are_all()


def test_connections_that_are_too_many_are_told_and_counted(lines: Lines) -> None:
    with serve_background(MemoryStore(), limits=Limits(connections=1)) as url, Wire(url) as wire:
        assert wire.ask("GET", "/query").status == 200
        answer = ask(url, "GET", "/query?x", "X-Request-Id: many")
        assert (answer.status, answer.problem["request_id"]) == (503, "many")
        assert lines.told()["outcome"] == "done"
        told = lines.told()
        assert (told["status"], told["path"], told["outcome"]) == (503, "/query", "refused")
    with serve_background(MemoryStore(), limits=Limits(target=100)) as url:
        for _ in range(2):
            assert ask(url, "GET", "/" + "x" * 200).status == 414
        assert numbers(url)["kvstore_refused_requests_total['414']"] == 2


# -- lines ---------------------------------------------------------------------------------


def test_a_request_is_one_line_whatever_it_holds_and_without_secrets(
    url: str, lines: Lines
) -> None:
    key = "/keys/a%0D%0Ab%E2%80%A8c%C2%85%1B%5B31m/data"
    agent = "User-Agent: odd\x85\xa0agent" + "x" * 500
    secrets = ("Authorization: Bearer secret", "Cookie: a=secret")
    answer = ask(url, "PUT", f"{key}?x=secret", agent, *secrets, body=b"abcdef")
    assert answer.status == 201
    record = lines.next()
    told = {name: record.__dict__[name] for name in FIELDS}
    assert told.pop("duration_ms") > 0
    assert told == {
        "method": "PUT",
        "path": key,
        "status": 201,
        "outcome": "done",
        "bytes_in": 6,
        "bytes_out": 0,
        "caller": None,
        "client": "127.0.0.1",
        "request_id": answer.headers["X-Request-Id"],
        "user_agent": "odd\\x85\\xa0agent" + "x" * 190,
    }
    line = JsonLines().format(record)
    document = json.loads(line)
    assert line.isascii()
    assert line.isprintable()
    assert {name: document[name] for name in FIELDS} == {
        name: record.__dict__[name] for name in FIELDS
    }
    text = TextLines().format(record)
    assert text.isprintable()
    assert f" PUT {key} 201 0 bytes " in text
    assert record.getMessage() == f"PUT {key} 201 done"
    assert "secret" not in line + text + record.getMessage()
    assert lines.are_all()


def test_who_goes_away_and_what_breaks_off_is_told(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    async def pieces() -> Any:
        yield b"abc"
        raise RuntimeError("of the page")

    async def page(request: Request) -> Response:
        if "id" in request.query_params:
            return PlainTextResponse(request.state.request_id)
        return StreamingResponse(pieces())

    store = MemoryStore()
    app = create_app(store)
    app.add_route("/page", page)
    with store, running(app) as url:
        named = ask(url, "GET", "/page?id")
        assert named.body.decode() == named.headers["X-Request-Id"] == lines.told()["request_id"]
        store.set_data("large", bytes(20 << 20))
        with Wire(url) as wire:
            wire.head("GET", "/keys/large/data")
            assert wire.socket.recv(1) == b"H"
        told = lines.told()
        assert (told["status"], told["outcome"]) == (200, "gone")
        assert told["bytes_out"] < 20 << 20
        with Wire(url) as wire:
            wire.head("PUT", "/keys/a/data", "Content-Length: 10")
            wire.send(b"abc")
        told = lines.told()
        assert (told["status"], told["outcome"], told["bytes_in"]) == (499, "gone", 3)
        with Stream(url) as stream:
            stream.begin()
            assert numbers(url)["kvstore_watchers[]"] == 1
            assert lines.told()["path"] == "/metrics"
        told = lines.told()
        assert (told["status"], told["outcome"], told["path"]) == (200, "gone", "/changes")
        with Wire(url) as wire:
            wire.head("GET", "/page", "X-Request-Id: broken-1")
            assert b"broken-1" in wire.socket.recv(1 << 16)
            while not wire.is_closed():
                pass
        told = lines.told()
        assert (told["status"], told["outcome"], told["bytes_out"]) == (200, "broken", 3)
        found = numbers(url)
    assert found["kvstore_unfinished_requests_total['data', 'gone']"] == 1 + 1
    assert found["kvstore_unfinished_requests_total['broken', 'other']"] == 1
    assert found["kvstore_requests_total['4xx', 'PUT', 'data']"] == 1
    assert found["kvstore_request_seconds_count['GET', 'changes']"] == 0
    (record,) = [each for each in caplog.records if each.name == "kvstore.server"]
    assert record.__dict__["request_id"] == "broken-1"
    assert record.getMessage() == "GET '/page' failed (request broken-1)"
    assert record.exc_info is not None
    assert json.loads(JsonLines().format(record))["request_id"] == "broken-1"
    assert "RuntimeError: of the page" in TextLines().format(record)


def test_lines_are_written_as_asked_for_and_only_while_asked_for(url: str) -> None:
    def written(log_format: Any) -> str:
        stream = io.StringIO()
        with logging_to(log_format, stream):
            ask(url, "GET", "/healthz")
            logging.getLogger("kvstore.server").warning("odd %s", "\x1b[0m")
            logging.getLogger("uvicorn.error").error("x", exc_info=ConnectionAbortedError())
        ask(url, "GET", "/healthz")
        logging.getLogger("kvstore.server").warning("later")
        return stream.getvalue()

    text = sorted(written("text").splitlines())
    assert len(text) == 2
    assert any(" GET /healthz 200 3 bytes " in line for line in text)
    assert any(line.endswith(" WARNING: odd \\x1b[0m") for line in text)
    found = [json.loads(line) for line in written("json").splitlines()]
    assert {each["logger"] for each in found} == {"kvstore.server", "kvstore.access"}
    assert {each.get("message") for each in found} == {None, "odd \x1b[0m"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["time"])
    # Where the program has set up logging itself, as pytest has, nothing is added to it.
    assert written("none") == written("auto") == ""


# -- health --------------------------------------------------------------------------------


class Hanging(MemoryStore):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def _record(self, key: str) -> Record:
        assert self.may.wait(20)
        return super()._record(key)


def test_probes_are_answered_by_any_name_and_without_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.2)
    store, nobody = Hanging(), Access([])
    with store, serve_background(store, access=nobody) as url, Wire(url) as wire:
        wire.host = "10.1.2.3"
        assert wire.ask("GET", "/healthz").body == b"ok\n"
        for _ in range(3):
            late = wire.ask("GET", "/readyz")
            assert (late.status, late.headers["Retry-After"]) == (503, "1")
            assert "answer" not in late.problem  # why is for the log
        store.may.set()
        assert wire.ask("GET", "/readyz").body == b"ready\n"
        for target in ("/healthz", "/readyz"):
            head = wire.ask("HEAD", target)
            assert (head.status, head.body, head.headers["Cache-Control"]) == (200, b"", "no-store")
            assert wire.ask("POST", target).headers["Allow"] == "GET, HEAD, OPTIONS"
            assert wire.ask("OPTIONS", target).status == 204
        store.disconnect()
        assert wire.ask("GET", "/healthz").status == 200
        assert wire.ask("GET", "/readyz").status == 503
    for path in ("/healthz", "/readyz", "/metrics"):
        with pytest.raises(InvalidRequestError, match=path):
            create_app(store, query=path)


# -- numbers -------------------------------------------------------------------------------


class Known(Authenticator):
    async def identify(self, bearer: str) -> Caller | None:
        if bearer not in ("read", "metrics"):
            return None
        return Caller(f"{bearer}er\x1b", "ann", frozenset({"ann"}), frozenset({bearer}))  # type: ignore[arg-type]


def test_metrics_count_what_is_asked_and_tell_no_key_nor_user(lines: Lines) -> None:
    store = MemoryStore()
    with store, serve_background(store, access=Access([Known()])) as url:
        store.set_data("secret-key", b"abc")
        store.set_permissions("secret-key", {"owned": {"ann"}})
        credentials = "Authorization: Bearer "
        for method, target in [
            *(("GET", "/keys/secret-key/data"), ("GET", "/keys/secret-key/metadata")),
            *(
                ("GET", "/query?filter=%22secret%22"),
                ("GET", "/changes"),
                ("GET", "/nothing-secret"),
            ),
            *(("GET", "/"), ("PROPFIND", "/query"), ("DELETE", "/keys/secret-key")),
            ("GET", "/.well-known/kvstore"),
        ]:
            ask(url, method, target, f"{credentials}read")
        told = lines.told()
        assert (told["caller"], told["bytes_out"]) == ("reader\\x1b", 3)
        assert ask(url, "GET", "/metrics").status == 401
        assert ask(url, "GET", "/metrics", f"{credentials}read").status == 403
        assert ask(url, "HEAD", "/metrics", f"{credentials}metrics").status == 200
        found = numbers(url, f"{credentials}metrics")
    for labels in [
        *("'2xx', 'GET', 'data'", "'2xx', 'GET', 'metadata'", "'2xx', 'GET', 'query'"),
        *("'2xx', 'GET', 'changes'", "'4xx', 'GET', 'other'", "'2xx', 'GET', 'page'"),
        *("'4xx', 'other', 'query'", "'4xx', 'DELETE', 'key'", "'2xx', 'GET', 'service'"),
        "'2xx', 'HEAD', 'metrics'",
    ]:
        assert found.pop(f"kvstore_requests_total[{labels}]") == 1
    assert found["kvstore_sent_bytes_total['data']"] == 3
    assert found["kvstore_request_seconds_count['GET', 'data']"] == 1
    assert found["kvstore_open_connections[]"] == 1
    assert found["kvstore_uploads_in_progress[]"] == 0
    assert found["process_resident_memory_bytes[]"] > 0
    assert not any(word in name for name in found for word in ("secret", "ann", "reader"))


def test_a_server_without_metrics_has_no_such_path() -> None:
    store = MemoryStore()
    with store, running(create_app(store, metrics=False)) as url:
        assert ask(url, "GET", "/metrics").status == 404
        assert ask(url, "GET", "/readyz").status == 200


def test_everything_works_below_a_path(lines: Lines) -> None:
    store = MemoryStore()
    app = Starlette(routes=[Mount("/deep/er", create_app(store))])

    async def naming(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("query_string") == b"outer":
            scope["state"]["request_id"] = "of-the-outer"
        await app(scope, receive, send)

    with store, running(naming) as url:
        outer = ask(url, "GET", "/deep/er/query?outer", "X-Request-Id: deep")
        assert outer.headers["X-Request-Id"] == lines.told()["request_id"] == "of-the-outer"
        missing = ask(url, "GET", "/deep/er/keys/a/data", "X-Request-Id: deep")
        assert missing.problem["request_id"] == "deep"
        told = lines.told()
        assert (told["path"], told["request_id"]) == ("/deep/er/keys/a/data", "deep")
        assert ask(url, "GET", "/deep/er/healthz").body == b"ok\n"
        assert ask(url, "GET", "/deep/er/readyz").body == b"ready\n"
        answer = ask(url, "GET", "/deep/er/metrics")
        assert b'{method="GET",route="data",status="4xx"} 1.0' in answer.body
        assert ask(url, "GET", "/metrics").status == 404


def _serve(pipe: Connection) -> None:
    with serve_background(MemoryStore()) as url:
        pipe.send(url)
        pipe.recv()


def test_processes_of_one_server_tell_their_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: requests.Session
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"of a server before")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    metrics_folder(folder)
    assert list(folder.iterdir()) == []
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_serve, args=(theirs,)) for _, theirs in pairs]
    for process in processes:
        process.start()
    first, second = (ours.recv() for ours, _ in pairs)
    for url in (first, second, second):
        assert ask(url, "GET", "/keys/a/data").status == 404
    with Wire(second) as wire:
        assert wire.ask("GET", "/metrics").status == 200  # by then it has told of the connection
        found = numbers(first)
    assert found["kvstore_requests_total['4xx', 'GET', 'data']"] == 3
    assert found["kvstore_request_seconds_count['GET', 'data']"] == 3
    assert found["kvstore_open_connections[]"] == 2
    assert found["kvstore_uploads_in_progress[]"] == 0
    for process in processes:
        assert found[f"process_resident_memory_bytes['{process.pid}']"] > 0
    pairs[1][0].send("end")
    processes[1].join(20)
    process_ended(processes[1].pid or 0)
    found = numbers(first)
    assert found["kvstore_requests_total['4xx', 'GET', 'data']"] == 3  # a sum never becomes less
    assert found["kvstore_open_connections[]"] == 1
    assert f"process_resident_memory_bytes['{processes[1].pid}']" not in found
    pairs[0][0].send("end")
    processes[0].join(20)
