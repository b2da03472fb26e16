"""Conditional writes whose answer is lost: what the server holds then tells what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import ConflictError, TransportError
from tests.transport.clients import EVERYTHING, HASTY, ONCE, announced, client
from tests.transport.wire_server import Step, Wire, WireServer, answer, as_json

DATA = b"data"
LARGE = bytes(range(256)) * 2048


def lost(wire: Wire) -> None:
    wire.body()
    wire.reset()


def cut_off(wire: Wire) -> None:
    """End it before all of the body came."""
    wire._more()
    wire.reset()


def found(data: bytes = DATA, metadata: object = None, revision: str | None = "r2") -> bytes:
    digest = f"sha256:{sha256(data).hexdigest()}"
    facts = {"size": len(data), "revision": revision, "digest": digest}
    record = {"key": "k", "metadata": metadata if metadata is not None else {"n": 1}, **facts}
    return answer(200, json.dumps(record).encode() + b"\n")


WRITES: dict[str, Callable[[Any], Any]] = {
    "set data": lambda store: store.set_data("k", DATA, if_match="r1"),
    "set": lambda store: store.set("k", (DATA, {"n": 1}), if_match="r1"),
    "create": lambda store: store.set("k", (DATA, {"n": 1}), if_none_match="*"),
    "set metadata": lambda store: store.set_metadata("k", {"n": 1}, if_match="r1"),
}
writes = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@writes
def test_what_the_server_has_was_written(write):
    steps: list[Step] = [lost, answer(412), found()]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store:
            assert write(store) == "r2"
    assert server.told[2] == "GET /query?%24prefix=k&%24limit=1"


@writes
def test_a_second_try_that_is_done_needs_no_look(write):
    steps: list[Step] = [lost, answer(204, ETag='"r3"')]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store:
            assert write(store) == "r3"


OTHERS: dict[str, Step] = {
    "other data and metadata": found(b"other", {"n": True}),
    "no revision": found(revision=None),
    "gone": answer(200),
    "not to be told": answer(403),
}


@writes
@pytest.mark.parametrize("look", OTHERS.values(), ids=OTHERS)
def test_what_the_server_has_not_is_a_conflict(look, write):
    steps = [lost, answer(412), look]
    if look is OTHERS["gone"]:  # from the listing, so that the key itself is asked for
        steps.append(answer(404))
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store, pytest.raises(ConflictError):
            write(store)


def test_the_same_revision_was_not_written_whatever_it_holds():
    steps: list[Step] = [lost, answer(412), found(revision="r1")]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store, pytest.raises(ConflictError) as caught:
            WRITES["set"](store)
    told = "An earlier try, whose answer was lost, may have been carried out."
    assert caught.value.__notes__ == [told]


def test_a_condition_that_failed_at_once_is_no_riddle():
    with WireServer([answer(412)], service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store, pytest.raises(ConflictError):
            WRITES["set"](store)


@pytest.mark.parametrize(
    ("data", "loss"),
    [("bytes", lost), ("file", lost), ("stream", lost), ("bytes", cut_off), ("file", cut_off)],
)
def test_large_data_is_compared_too(loss, data, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    given: dict[str, Any] = {"bytes": LARGE, "file": path, "stream": iter([LARGE])}
    steps: list[Step] = [loss, answer(412), found(LARGE)]
    if data == "stream":
        del steps[1]  # it cannot be sent again, but looked up
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store:
            assert store.set_data("k", given[data], if_match="r1") == "r2"


def test_a_stream_whose_answer_is_lost_fails_and_says_why():
    with WireServer([lost], service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store:
            with pytest.raises(TransportError, match="came from a stream and cannot be sent again"):
                store.set_data("k", iter([b"data"]))


def test_when_no_try_is_left_it_is_looked_up_too():
    with WireServer([lost, found()], service=announced(*EVERYTHING)) as server:
        with client(server, ONCE) as store:
            assert WRITES["set"](store) == "r2"
    with WireServer([lost, found(b"other")], service=announced(*EVERYTHING)) as server:
        with client(server, ONCE) as store, pytest.raises(TransportError):
            WRITES["set"](store)


def test_a_server_without_records_is_asked_for_the_key():
    digest = "sha-256=:Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc=:"
    head = answer(200, Content_Length=4, ETag='"r2"', Repr_Digest=digest)
    steps: list[Step] = [lost, answer(412), head, as_json({"n": 1})]
    with WireServer(steps, service=announced("value", "conditional", "digest")) as server:
        with client(server, HASTY) as store:
            assert WRITES["set"](store) == "r2"
    assert server.told[2:] == ["HEAD /keys/k/data", "GET /keys/k/metadata"]


def test_a_server_that_tells_no_digest_cannot_be_compared():
    head = answer(200, Content_Length=4, ETag='"r2"')
    steps: list[Step] = [lost, answer(412), head, as_json({"n": 1})]
    with WireServer(steps, service=announced("value", "conditional")) as server:
        with client(server, HASTY) as store, pytest.raises(ConflictError):
            WRITES["set"](store)


def test_permissions_are_compared():
    with WireServer(
        [lost, answer(412), found(), as_json({"owned": ["me"]})], service=announced(*EVERYTHING)
    ) as server:
        with client(server, HASTY) as store:
            assert store.set_permissions("k", {"owned": {"me"}}, if_match="r1") == "r2"


# -- deletions, and what is added ----------------------------------------------------------


def test_a_key_that_is_gone_was_deleted():
    for steps in ([lost, answer(404)], [lost, answer(412), answer(404)]):
        with WireServer(steps, service=announced(*EVERYTHING)) as server:
            with client(server, HASTY) as store:
                store.delete("k", if_match="r1")
            assert len(server.seen) == len(steps)


def test_a_key_that_was_changed_was_not_deleted():
    steps: list[Step] = [lost, answer(412), answer(200)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store, pytest.raises(ConflictError):
            store.delete("k", if_match="r1")


def test_what_is_added_is_sent_once_as_finding_it_says_nothing():
    with WireServer([lost], service=announced(*EVERYTHING)) as server:
        with client(server, HASTY) as store, pytest.raises(TransportError):
            store.update_metadata("k", {"n": 1}, if_match="r1")


def test_bodies_are_sent_with_a_digest_of_all_that_is_in_them(tmp_path: Path):
    with WireServer(default=answer(204), service=announced(*EVERYTHING)) as server:
        with client(server) as store:
            for write in (*WRITES.values(), lambda store: store.update_metadata("k", {"n": 1})):
                write(store)
    for seen in server.seen:
        named = "repr-digest" if seen.target.endswith("/data") else "content-digest"
        assert named in seen.headers
