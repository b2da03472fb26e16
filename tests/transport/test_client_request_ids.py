"""What a server calls a request, in the errors of the client: so that its log can be looked up."""

from __future__ import annotations

import pickle

import pytest

from kvstore.errors import (
    InvalidRequestError,
    KeyNotFoundError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.server import serve_background
from kvstore.stores.dynamic_url import DynamicURLStore
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.transport.clients import client
from tests.transport.wire_server import WireServer, answer, as_json, chunked

ID = {"X_Request_Id": "a1-7"}


@each(
    "step, kind, told",
    [
        (answer(500, **ID), TransportError, "HTTP 500, request a1-7)."),
        (as_json({"request_id": "a1-7"}, 503), UnavailableError, "HTTP 503, request a1-7)."),
        (as_json({"request_id": "no"}, 500, **ID), TransportError, "HTTP 500, request a1-7)."),
        (answer(418, **ID), InvalidRequestError, "HTTP 418, request a1-7)."),
        (answer(302, **ID), TransportError, "which is no answer to it (request a1-7)."),
        (answer(307, Location="http://o/", **ID), TransportError, "not followed (request a1-7)."),
        (answer(200, b"x", Content_Encoding="br", **ID), TransportError, "'br' (request a1-7)."),
        (answer(200, b"x" * 9, Content_Length=10, **ID), TransportError, "(request a1-7)."),
        (chunked([b"abc"], **ID)[:-5], TransportError, "(request a1-7)."),
        # Of what a user understands without help the message says nothing, but the error knows.
        (answer(404, **ID), KeyNotFoundError, "HTTP 404)."),
        (as_json({"request_id": "a1-7"}, 404), KeyNotFoundError, "HTTP 404)."),
    ],
)  # fmt: skip
def test_an_error_knows_its_request(step, kind, told):
    def cut(wire):
        wire.body()
        wire.send(step)
        wire.close()

    with WireServer([cut]) as server, client(server) as store:
        with pytest.raises(StoreError) as caught:
            store.get_data("k").read()
    error = caught.value
    assert (type(error) is kind or isinstance(error, kind), error.request_id) == (True, "a1-7")
    assert told in str(error)
    assert pickle.loads(pickle.dumps(error)).request_id == "a1-7"


@each("sent", ["\x9b31m", "x" * 2000, "", None, "ü\x85"])
def test_what_a_server_sends_as_a_name_is_cut_and_escaped(sent):
    with WireServer([answer(500, X_Request_Id=sent)]) as server, client(server) as store:
        with pytest.raises(TransportError) as caught:
            store.get_data("k").read()
    error = caught.value
    assert str(error).isprintable()
    assert len(str(error)) < 250
    assert (error.request_id is None) == (not sent)
    assert sent != "\x9b31m" or error.request_id == "\\x9b31m"


@each("named", [7, ["a"], {"a": 1}, "", "\n" * 1000])
def test_a_name_in_a_problem_is_not_trusted(named):
    with WireServer([as_json({"request_id": named}, 500)]) as server, client(server) as store:
        with pytest.raises(TransportError) as caught:
            store.get_data("k").read()
    assert str(caught.value).isprintable()
    assert (caught.value.request_id is None) == (named != "\n" * 1000)


def test_the_server_of_ours_tells_it(caplog):
    store = MemoryStore()
    with (
        store,
        serve_background(store) as url,
        DynamicURLStore(f"{url}/keys", f"{url}/query") as far,
    ):
        with pytest.raises(KeyNotFoundError) as missing:
            far.get("k")
        store.disconnect()
        with pytest.raises(StoreError, match=r"HTTP 500, request ") as failed:
            far.get("k")
    assert missing.value.request_id is not None
    assert f"failed (request {failed.value.request_id})" in caplog.text
