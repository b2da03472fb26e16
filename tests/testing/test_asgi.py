from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kvstore import InvalidRequestError
from kvstore.testing.http import app_at
from tests.cases import each

URL = "http://app.test"


class App:
    """Answers as its ``behave`` says, and remembers what it was sent."""

    def __init__(self) -> None:
        self.lifespan: list[str] = []
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.messages = 0
        self.disconnected = threading.Event()
        self.behave: Any = self.echo

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = (await receive())["type"]
                self.lifespan.append(message)
                await send({"type": f"{message}.complete"})
            return
        self.scopes.append(scope)
        await self.behave(receive, send)

    async def read(self, receive: Any) -> bytes:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                raise ConnectionResetError
            self.messages += 1
            body += message["body"]
            if not message["more_body"]:
                self.bodies.append(body)
                return body

    async def echo(self, receive: Any, send: Any) -> None:
        body = await self.read(receive)
        await self.answer(send, body)

    async def answer(self, send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    with app_at(app, URL):
        yield app


def pieces(*items: bytes) -> Iterator[bytes]:
    yield from items


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, b""),
        (b"", b""),
        (b"bytes", b"bytes"),
        ("t\u00e9xt", "t\u00e9xt".encode()),
        (io.BytesIO(b"file"), b"file"),
        (iter([b"a", b"", b"b"]), b"ab"),
        (b"x" * 300_000, b"x" * 300_000),
        (io.BytesIO(b"y" * 300_000), b"y" * 300_000),
    ],
    ids=["none", "empty", "bytes", "str", "file", "iterator", "large", "large file"],
)
def test_request_bodies(app: App, body: Any, expected: bytes) -> None:
    answer = requests.put(f"{URL}/key", data=body, timeout=10)
    assert answer.status_code == 200
    assert answer.content == expected
    assert app.bodies == [expected]


def test_file_is_sent_from_where_it_stands(app: App) -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    assert requests.put(URL, data=stream, timeout=10).content == b"456789"


def test_large_generator_comes_in_several_messages(app: App) -> None:
    blocks = [bytes([number]) * 50_000 for number in range(20)]
    assert requests.put(URL, data=pieces(*blocks), timeout=10).content == b"".join(blocks)
    assert app.messages > 5
    [scope] = app.scopes
    assert (b"transfer-encoding", b"chunked") in scope["headers"]


def test_upload_waits_for_the_application(app: App) -> None:
    """The queue between the two is short, whatever the size of the body."""
    passed = []

    def body() -> Iterator[bytes]:
        for number in range(50):
            passed.append(number)
            yield b"x" * 70_000

    async def look_first(receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        first = await receive()
        assert first["more_body"]
        counts.append(len(passed))
        await self_read(receive, send)

    async def self_read(receive: Any, send: Any) -> None:
        await app.read(receive)
        await app.answer(send, b"done")

    counts: list[int] = []
    app.behave = look_first
    assert requests.put(URL, data=body(), timeout=10).content == b"done"
    assert counts[0] < 12


def test_scope(app: App) -> None:
    requests.get(f"{URL}/a%20b/%2F//c?q=%22x%22&r=1%2B", headers={"X-Odd": "\u00e9"}, timeout=10)
    [scope] = app.scopes
    assert scope["type"] == "http"
    assert scope["method"] == "GET"
    assert scope["raw_path"] == b"/a%20b/%2F//c"
    assert scope["path"] == "/a b////c"
    assert scope["query_string"] == b"q=%22x%22&r=1%2B"
    assert (scope["scheme"], scope["server"]) == ("http", ("app.test", 80))
    headers = dict(scope["headers"])
    assert headers[b"host"] == b"app.test"
    assert headers[b"x-odd"] == b"\xe9"
    assert b"transfer-encoding" not in headers
    assert all(name == name.lower() for name in headers)


def test_status_and_headers(app: App) -> None:
    fields = [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"4")]
    app.behave = lambda receive, send: app.answer(send, b"gone", 410, fields)
    answer = requests.get(URL, timeout=10)
    assert (answer.status_code, answer.reason, answer.content) == (410, "Gone", b"gone")
    assert answer.headers["X-A"] == "1, 2"
    assert answer.headers["Date"].endswith("GMT")
    assert "Transfer-Encoding" not in answer.headers


def test_answer_without_length_is_chunked(app: App) -> None:
    answer = requests.get(URL, timeout=10)
    assert answer.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_body(app: App, status: int) -> None:
    app.behave = lambda receive, send: app.answer(send, b"", status)
    answer = requests.get(URL, timeout=10)
    assert (answer.status_code, answer.content) == (status, b"")
    assert "Transfer-Encoding" not in answer.headers


def test_head(app: App) -> None:
    app.behave = lambda receive, send: app.answer(send, b"", 200, [(b"content-length", b"1000")])
    answer = requests.head(URL, timeout=10)
    assert answer.content == b""
    assert answer.headers["Content-Length"] == "1000"


def test_answer_streams(app: App) -> None:
    """The first part is there before the last is made."""
    go_on = threading.Event()

    async def slowly(receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.get_running_loop().run_in_executor(None, go_on.wait, 10)
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"last"})

    app.behave = slowly
    with requests.get(URL, stream=True, timeout=10) as answer:
        assert answer.raw.read(5) == b"first"
        go_on.set()
        assert answer.raw.read() == b"last"


def test_answer_waits_for_the_reader(app: App) -> None:
    sent = []

    async def much(receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body"})

    app.behave = much
    with requests.get(URL, stream=True, timeout=10) as answer:
        answer.raw.read(1)
        assert len(sent) < 30
        assert len(answer.raw.read()) == 99_999
    assert len(sent) == 100


def test_abandoned_answer_disconnects(app: App) -> None:
    ended = threading.Event()

    async def endless(receive: Any, send: Any) -> None:
        await app.read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watcher = asyncio.create_task(receive())
        while not watcher.done():
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            await asyncio.sleep(0)
        assert watcher.result() == {"type": "http.disconnect"}
        ended.set()

    app.behave = endless
    with requests.get(URL, stream=True, timeout=10) as answer:
        assert answer.raw.read(5000) == b"x" * 5000
    assert ended.wait(10)


@pytest.mark.parametrize("size", [0, 10, 500_000])
def test_body_that_fails_is_a_lost_connection(app: App, size: int) -> None:
    class BrokenError(Exception):
        pass

    def body() -> Iterator[bytes]:
        for _ in range(0, size, 10_000):
            yield b"x" * 10_000
        raise BrokenError

    with pytest.raises(BrokenError):
        requests.put(URL, data=body(), timeout=10)
    assert app.bodies == []
    assert app.disconnected.is_set() == (size > 100_000)
    assert requests.put(URL, data=b"next", timeout=10).content == b"next"


@pytest.mark.parametrize("announced", [4, 6, 900_000])
def test_body_must_have_its_length(app: App, announced: int) -> None:
    headers = {"Content-Length": str(announced)}
    request = requests.Request("PUT", URL, data=pieces(b"x" * 5)).prepare()
    request.headers = requests.structures.CaseInsensitiveDict(headers)
    with requests.Session() as session, pytest.raises(requests.ConnectionError, match="announced"):
        session.send(request, timeout=10)
    assert app.bodies == []


def test_early_answer_does_not_wait_for_the_body(app: App) -> None:
    app.behave = lambda receive, send: app.answer(send, b"no", 413)
    body = (b"x" * 70_000 for _ in range(200))
    answer = requests.put(URL, data=body, timeout=10)
    assert (answer.status_code, answer.content) == (413, b"no")


def test_receive_after_the_answer_is_a_disconnect(app: App) -> None:
    told = []

    async def ask_twice(receive: Any, send: Any) -> None:
        await app.echo(receive, send)
        told.append(await receive())

    app.behave = ask_twice
    assert requests.put(URL, data=b"x", timeout=10).content == b"x"
    requests.put(URL, data=b"y", timeout=10)
    assert told[0] == {"type": "http.disconnect"}


def test_failure_before_the_answer_is_a_500(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(receive: Any, send: Any) -> None:
        raise RuntimeError("the application failed")

    app.behave = fail
    with caplog.at_level(logging.ERROR, "kvstore.testing"):
        answer = requests.get(URL, timeout=10)
    assert answer.status_code == 500
    assert "the application failed" in caplog.text


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"100")]], ids=["chunked", "sized"])
@pytest.mark.parametrize("raises", [True, False])
def test_failure_inside_the_answer_is_a_lost_connection(
    app: App, caplog: pytest.LogCaptureFixture, headers: Any, raises: bool
) -> None:
    async def break_off(receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if raises:
            raise RuntimeError("the application failed")

    app.behave = break_off
    caplog.set_level(logging.CRITICAL, "kvstore.testing")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(URL, timeout=10)


@pytest.mark.parametrize("size", [4, 6])
def test_answer_of_another_length_than_it_says(
    app: App, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    fields = [(b"content-length", b"5")]
    app.behave = lambda receive, send: app.answer(send, b"x" * size, 200, fields)
    caplog.set_level(logging.CRITICAL, "kvstore.testing")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(URL, timeout=10)


def test_time_out_before_the_answer(app: App) -> None:
    async def hang(receive: Any, send: Any) -> None:
        await app.read(receive)
        await app.read(receive)  # there is no second body: this ends when the client goes

    app.behave = hang
    with pytest.raises(requests.ReadTimeout):
        requests.get(URL, timeout=0.05)
    assert app.disconnected.wait(10)


def test_time_out_inside_the_answer(app: App) -> None:
    async def hang(receive: Any, send: Any) -> None:
        await app.read(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    app.behave = hang
    with pytest.raises(requests.ConnectionError):
        requests.get(URL, timeout=(10, 0.05))


def test_lifespan() -> None:
    app = App()
    with app_at(app, URL):
        assert app.lifespan == ["lifespan.startup"]
        assert requests.get(URL, timeout=10).ok
    assert app.lifespan == ["lifespan.startup", "lifespan.shutdown"]


def test_application_without_lifespan() -> None:
    app = App()

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    with app_at(plain, URL):
        assert requests.put(URL, data=b"x", timeout=10).content == b"x"


def test_application_that_does_not_start() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="startup"), app_at(broken, URL):
        pass


def test_other_hosts_are_refused_and_all_is_undone_at_the_end() -> None:
    with app_at(App(), URL):
        for url in ("http://app.test.evil/", "http://other.test/", "https://app.test/"):
            with pytest.raises(requests.ConnectionError, match="refused by Responses"):
                requests.get(url, timeout=10)
        with pytest.raises(requests.ConnectionError, match="refused by Responses"):
            requests.get("http://app.test:8080/", timeout=10)
        assert requests.get("http://APP.test:80/", timeout=10).ok
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("http://127.0.0.1:9/", timeout=10)
    assert "Responses" not in str(caught.value)


def test_several_applications_at_once() -> None:
    one, two = App(), App()
    two.behave = lambda receive, send: two.answer(send, b"two")
    with app_at(one, URL):
        with app_at(two, "https://two.test:8443"):
            copied = requests.put(
                URL,
                data=requests.get("https://two.test:8443/", timeout=10).iter_content(1),
                timeout=10,
            )
            assert copied.content == b"two"
            with pytest.raises(InvalidRequestError, match="already"), app_at(App(), URL + "/"):
                pass
        with pytest.raises(requests.ConnectionError):
            requests.get("https://two.test:8443/", timeout=10)
        assert requests.put(URL, data=b"x", timeout=10).content == b"x"


@each("url", ["app.test", "http://app.test/path", "http://", "/", ""])
def test_what_is_no_origin(url: str) -> None:
    with pytest.raises(InvalidRequestError), app_at(App(), url):
        pass


def test_upload_of_an_answer_that_is_still_read(app: App) -> None:
    """A copy within one server has both under way at once."""
    data = bytes(range(256)) * 2000

    async def serve(receive: Any, send: Any) -> None:
        if app.scopes[-1]["method"] == "PUT":
            await app.echo(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(data), 30_000):
            body = data[start : start + 30_000]
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    app.behave = serve
    with requests.get(URL, stream=True, timeout=10) as source:
        copied = requests.put(URL, data=source.iter_content(1000), timeout=10)
    assert copied.content == data


def test_many_threads(app: App) -> None:
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        with requests.Session() as session:
            for _ in range(10):
                body = b"%d" % number * 1000
                results[number] = session.put(URL, data=body, timeout=10).content
                assert results[number] == body

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: b"%d" % number * 1000 for number in range(8)}
    assert len(app.bodies) == 80
