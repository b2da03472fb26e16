"""Data on its way up: the bytes sent are those given, whole or not at all, however often."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.auth import AuthBase

from kvstore import MemoryStore
from kvstore.errors import (
    ConflictError,
    IntegrityError,
    InvalidRequestError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnsupportedOperationError,
)
from tests.cases import each
from tests.transport.clients import HASTY, announced, client, whole
from tests.transport.wire_server import Step, Wire, WireServer, answer, as_json

LARGE = bytes(range(256)) * 2048  # 512 KiB: more than is sent in one piece

DATA_DIGEST = "Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="  # of b"data"


class Unseekable(io.RawIOBase):
    """A stream that can be read once, as from a socket."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(buffer)


class Again:
    """An iterable that can be iterated again."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.data[:3], b"", self.data[3:]])


def written(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


def moved(data: bytes) -> io.BytesIO:
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    return stream


FORMS: dict[str, Callable[[bytes, Path], Any]] = {
    "bytes": lambda data, path: data,
    "bytearray": lambda data, path: bytearray(data),
    "memoryview": lambda data, path: memoryview(data),
    "path": written,
    "file": lambda data, path: moved(data),
    "iterable": lambda data, path: Again(data),
    "iterator": lambda data, path: iter([data[:3], b"", data[3:]]),
    "generator": lambda data, path: (data[i : i + 70_000] for i in range(0, len(data), 70_000)),
    "unseekable": lambda data, path: Unseekable(data),
}
REPLAYABLE = ("bytes", "bytearray", "memoryview", "path", "file", "iterable")
SIZED = ("bytes", "bytearray", "memoryview", "path", "file")


class Token(AuthBase):
    """Authentication that no lean way knows."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Token t"
        return request


def with_auth() -> tuple[None, AuthBase]:
    return None, Token()


WAYS = [lambda: None, whole, with_auth]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data", [b"", b"d", LARGE], ids=["empty", "small", "large"])
def test_the_bytes_that_arrive_are_those_given(data, form, tmp_path):
    for credentials in WAYS:
        server = WireServer([answer(201), answer(201)], service=announced("digest", "value"))
        with server, client(server, credentials=credentials()) as store:
            store.set_data("k", FORMS[form](data, tmp_path / "file"))
            store.set("k", (FORMS[form](data, tmp_path / "file"), {"n": 1}))
        first, second = server.seen
        assert first.body == data
        head, _, rest = second.body.partition(b"\n")
        assert (json.loads(head)["metadata"], rest) == ({"n": 1}, data)
        for seen in (first, second):
            framing = {"content-length", "transfer-encoding"} & seen.headers.keys()
            assert framing == ({"content-length"} if form in SIZED else {"transfer-encoding"})


def test_small_data_is_sent_with_its_digest_whatever_it_comes_from(tmp_path):
    digest = "sha256:3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    server = WireServer(default=answer(204), service=announced("digest", "value"))
    with server, client(server) as store:
        for form in SIZED:
            store.set_data("k", FORMS[form](b"data", tmp_path / "file"))
            store.set("k", (FORMS[form](b"data", tmp_path / "file"), {}))
    for seen in server.seen:
        if seen.target.endswith("/data"):
            assert seen.headers["repr-digest"] == f"sha-256=:{DATA_DIGEST}:"
        else:
            assert json.loads(seen.body.partition(b"\n")[0])["digest"] == digest


@pytest.mark.parametrize(
    "data", [b"data", LARGE, iter([b"data"])], ids=["small", "large", "stream"]
)
def test_other_bytes_stored_than_were_sent_are_an_error(data):
    wrong = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
    steps = [answer(201, ETag='"r"', Repr_Digest=wrong)]
    with WireServer(steps, service=announced("digest")) as server, client(server) as store:
        with pytest.raises(IntegrityError):
            store.set_data("k", data)


def test_the_right_digest_of_what_was_stored_is_none():
    right = f"sha-256=:{DATA_DIGEST}:"
    steps = [answer(201, Repr_Digest=right), answer(204, Repr_Digest=right)]
    with WireServer(steps, service=announced("digest")) as server, client(server) as store:
        store.set_data("k", b"data")
        store.set_data("k", iter([b"da", b"ta"]))


# -- sources that fail ---------------------------------------------------------------------


class Failed(Exception):
    pass


FAILURES = [
    Failed("mine"),
    ValueError("mine"),
    OSError(errno.EIO, "mine"),
    # urllib3 takes these two for the server's end of the connection, and would wait for an answer.
    BrokenPipeError(errno.EPIPE, "mine"),
    ConnectionResetError(errno.ECONNRESET, "mine"),
    TimeoutError("mine"),
    TransportError("mine"),
    requests.ConnectionError("mine"),
    requests.HTTPError("mine"),
    IntegrityError("mine"),
    StopAsyncIteration("mine"),
]


def failing(error: BaseException) -> Iterator[bytes]:
    yield b"x" * 100
    yield b"y" * 100_000
    raise error


@each("error", FAILURES, ids=lambda error: type(error).__name__)
@each("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_what_a_source_raises_passes_through_and_nothing_is_stored(error, credentials):
    ended = threading.Event()

    def stored_only_if_whole(wire: Wire) -> None:
        try:
            wire.body()
        finally:
            ended.set()

    with WireServer([stored_only_if_whole, answer(200, b"still")]) as server:
        with client(server, policy=HASTY, credentials=credentials()) as store:
            with pytest.raises(type(error)) as caught:
                store.set_data("k", failing(error))
            assert caught.value is error
            assert ended.wait(10)
            assert store.get_data("k").read() == b"still"
    assert not server.seen[0].is_whole
    assert len(server.seen) == 2
    # It outlives the test, and with it what its frames hold: the connection.
    error.__traceback__ = error.__context__ = None


def test_what_a_source_raises_passes_through_a_session_that_wraps_it():
    class Wrapping(requests.Session):
        def request(self, *args: Any, **options: Any) -> requests.Response:  # type: ignore[override]
            try:
                return super().request(*args, **options)
            except Exception as error:
                raise requests.ConnectionError("wrapped") from error

    with Wrapping() as session, WireServer([Wire.body]) as server:
        with client(server, policy=HASTY, credentials=(None, session)) as store:
            with pytest.raises(Failed):
                store.set_data("k", failing(Failed("mine")))
    assert not server.seen[0].is_whole


def test_ctrl_c_in_a_source_passes_through_too():
    with WireServer([Wire.body]) as server, client(server) as store:
        with pytest.raises(KeyboardInterrupt):
            store.set_data("k", failing(KeyboardInterrupt()))
    assert not server.seen[0].is_whole


def test_a_file_that_shrinks_while_it_is_sent_is_an_error_and_stored_nowhere(tmp_path):
    path = written(LARGE, tmp_path / "file")

    def shrink(done: int, total: int) -> None:
        os.truncate(path, 300_000)

    with WireServer([Wire.body]) as server, client(server, policy=HASTY) as store:
        with pytest.raises(IntegrityError):
            store.from_file("k", path, 1 << 16, progress=shrink)
    assert not server.seen[0].is_whole


@pytest.mark.parametrize("piece", ["text", None, 1, [b"x"]])
def test_an_iterable_of_something_else_is_refused(piece):
    with WireServer([Wire.body]) as server, client(server) as store:
        with pytest.raises(InvalidRequestError):
            store.set_data("k", iter([b"first", piece]))
    assert not server.seen[0].is_whole


# -- sent again ----------------------------------------------------------------------------


def reset_in_the_body(wire: Wire) -> None:
    wire.reset()


def reset_after_the_body(wire: Wire) -> None:
    wire.body()
    wire.reset()


def close_after_the_body(wire: Wire) -> None:
    wire.body()
    wire.close()


LOST: list[Step] = [
    reset_in_the_body,
    reset_after_the_body,
    close_after_the_body,
    answer(503),
    answer(500),
    lambda wire: (wire.send(answer(503)), wire.body()),
]


@pytest.mark.parametrize("form", REPLAYABLE)
@pytest.mark.parametrize("size", [4, len(LARGE)])
def test_a_retry_sends_the_same_bytes(size, form, tmp_path):
    steps = [step for lost in LOST for step in (lost, lost, answer(201))]
    with WireServer(steps) as server, client(server, policy=HASTY) as store:
        for number in range(len(LOST)):
            store.set_data("k", FORMS[form](LARGE[:size], tmp_path / "file"))
            assert len(server.seen) == 3 * number + 3
            assert server.seen[-1].body == LARGE[:size]


@pytest.mark.parametrize("form", ["iterator", "generator", "unseekable"])
@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_what_can_be_read_once_is_sent_once(form, credentials, tmp_path):
    with WireServer(LOST) as server:
        with client(server, policy=HASTY, credentials=credentials()) as store:
            for number in range(len(LOST)):
                with pytest.raises(TransportError) as caught:
                    store.set_data("k", FORMS[form](LARGE, tmp_path / "file"))
                assert caught.value.attempts == 1
                assert len(server.seen) == number + 1


class Unreachable(requests.adapters.HTTPAdapter):
    """Cannot connect the first time, then can."""

    tried = 0

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        if request.method == "PUT":
            self.tried += 1
            if self.tried == 1:
                cause = urllib3.exceptions.NewConnectionError(None, "refused")  # type: ignore[arg-type]
                raise requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "", cause))  # type: ignore[arg-type]
        return super().send(request, *args, **options)


def test_what_can_be_read_once_may_be_tried_again_until_it_is_begun():
    with requests.Session() as session, WireServer([answer(201)]) as server:
        session.mount("http://", Unreachable())
        with client(server, policy=HASTY, credentials=(None, session)) as store:
            store.set_data("k", iter([b"da", b"ta"]))
    assert server.seen[0].body == b"data"


def test_a_session_that_retries_by_itself_never_sends_an_empty_body():
    def begin_and_reset(wire: Wire) -> None:
        wire.body()
        wire.reset()

    with requests.Session() as session, WireServer([begin_and_reset, Wire.body]) as server:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=3))
        with client(server, credentials=(None, session)) as store:
            with pytest.raises(UnsupportedOperationError):
                store.set_data("k", iter([b"data"]))
    assert not server.seen[1].is_whole


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirected_upload_is_sent_again_whole_or_is_an_error(form, status, tmp_path):
    steps = [answer(status, Location="/new"), answer(201), answer(200, b"next")]
    if form not in REPLAYABLE:
        del steps[1]
    with WireServer(steps) as server, client(server) as store:
        data = FORMS[form](LARGE, tmp_path / "file")
        if form in REPLAYABLE:
            store.set_data("k", data)
            assert server.seen[1].body == LARGE
        else:
            with pytest.raises(TransportError) as caught:
                store.set_data("k", data)
            assert caught.value.status == status
        assert store.get_data("k").read() == b"next"


# -- answered early ------------------------------------------------------------------------


EARLY = [(412, ConflictError), (413, TooLargeError), (507, StorageFullError), (403, StoreError)]


@pytest.mark.parametrize("form", ["bytes", "path", "generator"])
@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_an_answer_before_the_end_of_the_body_counts(form, credentials, tmp_path):
    body = os.urandom(1 << 16) * 64  # 4 MiB: more than the sockets hold
    statuses = [status for status, _ in EARLY]

    def refuse(wire: Wire) -> None:
        wire.send(answer(statuses.pop(0), Connection="close"))
        wire.close()

    with WireServer([refuse] * len(EARLY)) as server:
        with client(server, policy=HASTY, credentials=credentials()) as store:
            for status, error in EARLY:
                with pytest.raises(error) as caught:
                    store.set_data("k", FORMS[form](body, tmp_path / "file"))
                assert caught.value.status == status


def test_an_early_answer_over_a_connection_that_goes_on_is_taken_after_the_body():
    def refuse(wire: Wire) -> None:
        wire.send(answer(412))
        wire.body()

    steps = [answer(200, b"before"), refuse, answer(200, b"next")]
    with WireServer(steps) as server, client(server) as store:
        assert store.get_data("k").read() == b"before"
        with pytest.raises(ConflictError):
            store.set_data("k", iter([LARGE, LARGE]))
        assert store.get_data("k").read() == b"next"
    assert server.connections == 1


def test_a_failed_source_after_a_try_that_broke_off_is_the_sources_error():
    class Fails:
        times = 0

        def __iter__(self) -> Iterator[bytes]:
            self.times += 1
            yield LARGE
            if self.times > 1:
                raise Failed
            yield LARGE * 8

    with WireServer([reset_in_the_body, Wire.body]) as server:
        with client(server, policy=HASTY) as store, pytest.raises(Failed):
            store.set_data("k", Fails())


def test_an_upload_that_broke_off_leaves_no_error_behind_for_the_next_try():
    # Its generator is closed by an exception of its own, which must not pass for the source's.
    def refuse(wire: Wire) -> None:
        wire.send(answer(503, Connection="close"))
        wire.close()

    steps = [refuse, reset_in_the_body, answer(201)]
    with WireServer(steps) as server, client(server, policy=HASTY) as store:
        store.set_data("k", Again(LARGE * 16))
    assert server.seen[2].body == LARGE * 16


# -- a store as source ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, len(LARGE)])
def test_a_value_can_be_stored_on_the_server_that_it_comes_from(size):
    data = LARGE[:size]
    record = {"key": "a", "metadata": {"n": 1}, "size": size, "mimetype": "text/x"}
    line = json.dumps(record).encode() + b"\n"
    steps = [answer(200, line + data), answer(201)]
    with WireServer(steps, service=announced("value")) as server, client(server) as store:
        store.set("b", store.get("a"))
    head, _, body = server.seen[1].body.partition(b"\n")
    assert json.loads(head) == {"metadata": {"n": 1}, "mimetype": "text/x"}
    assert body == data


def test_a_value_opened_again_while_it_is_uploaded():
    # The data is asked for inside the upload, whose own time limits must stay in force. Which of
    # the two connections the server looks at first is open.
    def put_or_get(wire: Wire) -> None:
        wire.body()
        wire.send(answer(201) if wire.seen.method == "PUT" else answer(200, b"x" * 300_000))

    steps = [
        answer(200, b"", Content_Length=300_000),
        as_json({"n": 1}),
        put_or_get,
        put_or_get,
        answer(204),
    ]
    with WireServer(steps) as server, client(server) as store:
        store.set("b", store.get("a"))
    assert server.told[:2] == ["HEAD /keys/a/data", "GET /keys/a/metadata"]
    assert sorted(server.told[2:4]) == ["GET /keys/a/data", "PUT /keys/b/data"]
    assert server.told[4:] == ["PUT /keys/b/metadata"]
    put = next(seen for seen in server.seen if str(seen) == "PUT /keys/b/data")
    assert put.body == b"x" * 300_000


def test_a_source_that_breaks_off_is_told_as_such_and_not_taken_for_this_server():
    def cut(wire: Wire) -> None:
        wire.send(answer(200, b"x", Content_Length=300_000))
        wire.close()

    steps = [answer(200, Content_Length=300_000), answer(200, b"{}"), cut]
    with WireServer(steps) as source, WireServer([Wire.body]) as server:
        with client(source) as there, client(server, policy=HASTY) as store:
            value = there.get("a")
            with pytest.raises((TransportError, IntegrityError)):
                store.set("b", value)
    assert not server.seen[0].is_whole


def test_a_memory_store_is_streamed():
    with MemoryStore() as memory, WireServer([answer(201)] * 2) as server, client(server) as store:
        memory.set("m", (LARGE, {"a": 1}))
        store.set("k", memory.get("m"))
    assert server.seen[0].body == LARGE


def test_progress_of_an_upload():
    done: list[tuple[int, int]] = []
    with WireServer([answer(201)] * 3) as server, client(server) as store:
        for data, size in ((LARGE, 200_000), (io.BytesIO(b"small"), 100), (iter([b"a", b"bc"]), 9)):
            store.set_data("k", data, size, progress=lambda *told: done.append(told))
    total = len(LARGE)
    assert done == [(200_000, total), (400_000, total), (total, total), (5, 5), (1, -1), (3, -1)]


def test_a_small_body_comes_together_with_its_head():
    came: list[bytes] = []

    def step(wire: Wire) -> None:
        came.append(bytes(wire._rest))  # what one call has received
        wire.body()
        wire.send(answer(201))

    with WireServer([step] * 3) as server, client(server) as store:
        store.set_data("k", b"data")
        store.set_metadata("k", {"a": 1})
        store.set_data("k", b"d" * 10_000)
    assert came == [b"data", b'{"a":1}', b"d" * 10_000]
