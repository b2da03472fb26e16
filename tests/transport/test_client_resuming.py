"""Downloads and listings that break off and go on, of one revision and without a gap."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kvstore import DynamicURLStore
from kvstore.errors import ConflictError, IntegrityError, KeyNotFoundError, TransportError
from kvstore.profiles.digests import field_of_digest
from kvstore.transport.policy import Policy
from tests.cases import each
from tests.transport.basic_server import Entry, basic_server
from tests.transport.clients import EVERYTHING, ONCE, announced, client
from tests.transport.wire_server import Step, Wire, WireServer, answer, chunked

#: Without pauses, and whatever the load of the machine what comes is progress.
STUBBORN = Policy(backoff=0, minimum_rate=0)
DATA = bytes(range(251)) * 4000  # about 1 MB, of which no two places are alike within a read
SIZE = len(DATA)
DIGEST = field_of_digest(f"sha256:{sha256(DATA).hexdigest()}")


def cut(page: bytes, size: int, end: Callable[[Wire], object] = Wire.close) -> Step:
    """Send the head and so many bytes of the body, then end the connection."""
    head = page.index(b"\r\n\r\n") + 4

    def step(wire: Wire) -> None:
        wire.body()
        wire.send(page[: head + size])
        end(wire)

    return step


def part(start: int, end: int = SIZE, data: bytes = DATA, **headers: object) -> bytes:
    told = f"bytes {start}-{end - 1}/{len(data)}"
    return answer(206, data[start:end], Content_Range=told, **{"ETag": '"r1"', **headers})


def ranged(server: WireServer) -> list[tuple[str | None, str | None]]:
    return [(seen.headers.get("range"), seen.headers.get("if-range")) for seen in server.seen]


ENDS = {"closed": Wire.close, "reset": Wire.reset, "half closed": Wire.half_close}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_data_goes_on_where_it_stopped(end, tmp_path):
    steps = [
        cut(answer(200, DATA, ETag='"r1"'), 400_000, end),
        cut(part(400_000), 300_000, end),
        part(700_000),
    ]
    if end is Wire.reset:  # takes away what was not read yet: how far it came is not certain
        steps[1:] = [rest_of(DATA)]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        assert store.get_data("k").read() == DATA
    if end is not Wire.reset:
        assert ranged(server) == [
            (None, None),
            ("bytes=400000-", '"r1"'),
            ("bytes=700000-", '"r1"'),
        ]


def rest_of(data: bytes, cut_after: int | None = None, **headers: object) -> Step:
    """Answer with what is asked for, or a part of that."""

    def step(wire: Wire) -> None:
        wire.body()
        if "range" not in wire.seen.headers:  # the reset took away the head of the first answer
            wire.send(answer(200, data, ETag='"r1"'))
            return
        first, _, last = wire.seen.headers["range"].removeprefix("bytes=").partition("-")
        end = int(last) + 1 if last else len(data)
        page = part(int(first), end, data, **headers)
        if cut_after is None:
            wire.send(page)
        else:
            cut(page, cut_after, Wire.reset)(wire)

    return step


def test_progress_renews_the_tries():
    pieces = 20
    steps: list[Step] = [cut(answer(200, DATA, ETag='"r1"'), 50_000 - 1)]
    step = SIZE // pieces
    starts = [50_000 - 1 + step * number for number in range(pieces)]
    steps += [cut(part(start), step) for start in starts if start + step < SIZE]
    steps.append(part(49_999 + step * (len(steps) - 1)))
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        assert store.get_data("k").read() == DATA
    assert len(server.seen) > 4 * STUBBORN.attempts


def test_without_progress_the_tries_end():
    steps = [cut(answer(200, DATA, ETag='"r1"'), 400_000)] + [cut(part(400_000), 0)] * 3
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        with pytest.raises(TransportError) as caught, store.get_data("k") as stream:
            stream.read()
    assert caught.value.attempts == 4


def test_what_comes_slower_than_the_minimum_rate_is_no_progress():
    policy = Policy(backoff=0, minimum_rate=1e15)
    steps = [cut(answer(200, DATA, ETag='"r1"'), 400_000)]
    steps += [cut(part(400_000 + number), 1) for number in range(3)]
    with WireServer(steps) as server, client(server, policy) as store:
        with pytest.raises(TransportError), store.get_data("k") as stream:
            stream.read()


def test_a_stall_and_an_answer_of_503_are_gone_around():
    policy = Policy(backoff=0, minimum_rate=0, read_timeout=0.2)
    steps = [
        cut(answer(200, DATA, ETag='"r1"'), 400_000, Wire.hang),
        answer(503, Retry_After=0),
        answer(500),
        cut(part(400_000), 100, Wire.hang),
        part(400_100),
    ]
    with WireServer(steps) as server, client(server, policy) as store:
        assert store.get_data("k").read() == DATA


def test_one_try_is_one_try():
    with WireServer([cut(answer(200, DATA, ETag='"r1"'), 400_000)]) as server:
        with client(server, ONCE) as store, store.get_data("k") as stream:
            assert stream.read(10) == DATA[:10]
            with pytest.raises(TransportError):
                stream.read()
            with pytest.raises(TransportError):
                stream.read()


def test_a_conditional_server_is_asked_under_a_condition():
    steps = [cut(answer(200, DATA, ETag='"r1"'), 400_000), part(400_000)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, STUBBORN) as store:
            assert store.get_data("k").read() == DATA
    second = server.seen[1].headers
    assert (second["range"], second["if-match"]) == ("bytes=400000-", '"r1"')


CHANGED: dict[str, Step] = {
    "another ETag": part(400_000, ETag='"r2"'),
    "no ETag": part(400_000, ETag=None),
    "a weak ETag": part(400_000, ETag='W/"r1"'),
    "whole, another ETag": answer(200, DATA, ETag='"r2"'),
    "whole, no ETag": answer(200, DATA),
    "whole, shorter": answer(200, DATA[:-1], ETag='"r1"'),
    "shorter": part(400_000, SIZE - 1, DATA[:-1]),
    "longer": part(400_000, SIZE + 1, DATA + b"x"),
    "elsewhere": part(400_001),
    "only a part": part(400_000, 500_000),
    "nothing there": answer(416, Content_Range="bytes */400000", ETag='"r1"'),
    "condition failed": answer(412),
    "gone": answer(404),
}


@each("step", CHANGED.values(), ids=CHANGED)
def test_two_revisions_are_never_mixed(step):
    with WireServer([cut(answer(200, DATA, ETag='"r1"'), 400_000), step]) as server:
        with client(server, STUBBORN) as store, store.get_data("k") as stream:
            with pytest.raises((ConflictError, TransportError, KeyNotFoundError)):
                stream.read()


@pytest.mark.parametrize(
    "headers", [{"ETag": '"r1"'}, {"Repr_Digest": DIGEST}], ids=["ETag", "digest"]
)
def test_a_server_without_ranges_gives_everything_again(headers):
    steps = [cut(answer(200, DATA, **headers), 400_000), answer(200, DATA, **headers)]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        assert store.get_data("k").read() == DATA


def test_a_digest_over_everything_tells_a_mix():
    other = DATA[:-1] + b"?"
    steps = [
        cut(answer(200, DATA, Repr_Digest=DIGEST), 400_000),
        part(400_000, data=other, ETag=None),
    ]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        with pytest.raises(IntegrityError), store.get_data("k") as stream:
            stream.read()


def test_where_nothing_tells_the_revision_everything_must_begin_with_what_was_given_out():
    steps = [cut(answer(200, DATA), 400_000), cut(answer(200, DATA), 500_000), answer(200, DATA)]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        assert store.get_data("k").read() == DATA
    assert ranged(server) == [(None, None)] * 3
    other = b"?" + DATA[1:]
    with WireServer([steps[0], answer(200, other)]) as server, client(server, STUBBORN) as store:
        with pytest.raises(ConflictError), store.get_data("k") as stream:
            stream.read()
    with WireServer([steps[0], answer(200, DATA[:200_000])]) as server:
        with client(server, STUBBORN) as store, store.get_data("k") as stream:
            with pytest.raises(ConflictError):
                stream.read()


def test_chunks_go_on_too():
    whole = chunked([DATA[:500_000], DATA[500_000:]], ETag='"r1"')
    end = len(whole) - whole.index(b"\r\n\r\n") - 4
    nothing_more = answer(416, Content_Range=f"bytes */{SIZE}", ETag='"r1"')
    for sent, rest in ((300_000, rest_of(DATA)), (end - 5, nothing_more)):
        with WireServer([cut(whole, sent), rest]) as server, client(server, STUBBORN) as store:
            assert store.get_data("k").read() == DATA


# -- ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"ETag": None}], ids=["ETag", "nothing"])
def test_a_range_goes_on_within_itself(headers):
    first = part(1000, 901_000, **headers)
    steps = [cut(first, 400_000), rest_of(DATA, **headers)]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        assert store.get_data_range("k", 1000, 901_000).read() == DATA[1000:901_000]
    asked = "bytes=401000-900999" if not headers else "bytes=1000-900999"
    assert ranged(server)[1][0] == asked


def test_a_range_that_has_to_be_cut_out_goes_on():
    for headers in ({"ETag": '"r1"'}, {}):
        steps = [cut(answer(200, DATA, **headers), count) for count in (500, 400_000)]
        with WireServer([*steps, answer(200, DATA, **headers)]) as server:
            with client(server, STUBBORN) as store:
                assert store.get_data_range("k", 1000, 901_000).read() == DATA[1000:901_000]


def test_a_range_of_other_data_is_no_rest_of_it():
    other = b"?" * SIZE
    steps = [cut(part(1000, ETag=None), 400_000), rest_of(other, ETag=None)]
    with WireServer(steps) as server, client(server, STUBBORN) as store:
        with pytest.raises(ConflictError), store.get_data_range("k", 1000) as stream:
            stream.read()


# -- values and files ----------------------------------------------------------------------


def value_of(data: bytes, **facts: object) -> bytes:
    record = {"key": "k", "metadata": {"n": 1}, "size": len(data), "revision": "r1", **facts}
    return json.dumps(record).encode() + b"\n" + data


READ: dict[str, Callable[[DynamicURLStore, Any], bytes]] = {
    "get": lambda store, path: store.get("k").read(),
    "to_bytes": lambda store, path: store.to_bytes("k"),
    "to_file": lambda store, path: (store.to_file("k", path), path.read_bytes())[1],
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_a_value_goes_on_from_the_data(read, tmp_path):
    page = answer(200, value_of(DATA), ETag='"r1"')
    head = len(value_of(b"")) + 4
    steps = [cut(page, 10), cut(page, 400_000 + head), cut(page, head - 20), rest_of(DATA)]
    steps = [steps[0], steps[1], rest_of(DATA, cut_after=1000), rest_of(DATA)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, STUBBORN) as store:
            assert read(store, tmp_path / "file") == DATA
    assert server.told == ["GET /keys/k/value"] * 2 + ["GET /keys/k/data"] * 2
    assert [seen.headers.get("if-match") for seen in server.seen] == [None, None, '"r1"', '"r1"']


def test_a_value_that_was_changed_meanwhile_is_not_read_on(tmp_path):
    steps = [cut(answer(200, value_of(DATA)), 400_000), answer(412)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, STUBBORN) as store, pytest.raises(ConflictError):
            store.to_file("k", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_value_without_conditions_goes_on_by_its_digest():
    page = answer(200, value_of(DATA, digest=f"sha256:{sha256(DATA).hexdigest()}"))
    steps = [cut(page, 400_000), rest_of(DATA, ETag='"of-a-proxy"')]
    with WireServer(steps, service=announced("value", "digest")) as server:
        with client(server, STUBBORN) as store:
            assert store.get("k").read() == DATA


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_small_data_that_never_comes_whole_is_put_together(etags, ranges):
    # 200 kB are asked for whole the first time; then what came of them counts.
    with basic_server(etags=etags, ranges=ranges) as server:
        server.entries["k"] = Entry(DATA[:200_000])
        with DynamicURLStore(f"{server.url}/keys", f"{server.url}/query", policy=STUBBORN) as store:
            assert store.get_data("k").read() == DATA[:200_000]
    page = answer(200, DATA[:200_000], ETag='"r1"')
    steps = [cut(page, 90_000), cut(page, 90_000), rest_of(DATA[:200_000])]
    with WireServer(steps) as wire, client(wire, STUBBORN) as store:
        assert store.get_data("k").read() == DATA[:200_000]
    assert [asked for asked, _ in ranged(wire)] == [None, None, "bytes=90000-"]


# -- listings ------------------------------------------------------------------------------

KEYS = [f"key/{number:05}" for number in range(2000)]


def lines(keys: list[str]) -> bytes:
    more = "x" * 300  # so much that an answer is read as it comes
    facts = ((key, {"n": -int(key[-5:]), "more": more}) for key in keys)
    records = ({"key": key, "metadata": metadata, "size": 1} for key, metadata in facts)
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def asked_after(server: WireServer) -> list[str | None]:
    queries = [parse_qs(urlsplit(seen.target).query) for seen in server.seen]
    return [query["$after"][0] if "$after" in query else None for query in queries]


def listing(keys: list[str], number: int, end: Callable[[Wire], object] = Wire.close) -> Step:
    """A listing that ends after so many lines and a few bytes more."""
    return cut(answer(200, lines(keys)), len(lines(keys[:number])) + 7, end)


def test_a_listing_goes_on_behind_the_last_record():
    steps = [
        listing(KEYS, 700),
        listing(KEYS[700:], 0),
        listing(KEYS[700:], 500),
        answer(200, lines(KEYS[1200:])),
    ]
    with WireServer(steps, service=announced("records")) as server:
        with client(server, STUBBORN) as store:
            assert list(store.query_keys()) == KEYS
    assert asked_after(server) == [None, KEYS[699], KEYS[699], KEYS[1199]]


def test_a_listing_in_another_order_goes_on_by_its_cursor():
    keys = KEYS[::-1]
    steps = [listing(keys, 700), answer(200, lines(keys[700:1500]))]
    with WireServer(steps, service=announced("records")) as server:
        with client(server, STUBBORN) as store:
            assert list(store.query_keys(order_by="n", limit=1500)) == keys[:1500]
    assert json.loads(asked_after(server)[1] or "") == [keys[699], -1300]
    assert "%24limit=800" in server.seen[1].target


@pytest.mark.parametrize("order", [None, "n"])
def test_a_listing_that_begins_again_is_an_error(order):
    keys = KEYS if order is None else KEYS[::-1]
    steps = [listing(keys, 700), answer(200, lines(keys))]
    with WireServer(steps, service=announced("records")) as server:
        with client(server, STUBBORN) as store, pytest.raises(TransportError):
            list(store.query_keys(order_by=order))


def test_pages_have_tries_of_their_own():
    def page(number: int) -> Step:
        link = f'<?page={number + 1}>; rel="next"' if number < 9 else None
        return answer(200, lines(KEYS[number * 10 : number * 10 + 10]), Link=link)

    steps = [step for number in range(10) for step in (answer(503), answer(503), page(number))]
    with WireServer(steps, service=announced("records")) as server:
        with client(server, STUBBORN) as store:
            assert list(store.query_keys()) == KEYS[:100]


def test_a_plain_listing_begins_again():
    page = answer(200, "\n".join(KEYS).encode())
    with WireServer([cut(page, 10_000), cut(page, 0), page]) as server:
        with client(server, STUBBORN) as store:
            assert list(store.query_keys()) == KEYS


def test_a_listing_that_never_goes_on_ends():
    steps = [listing(KEYS, 700)] + [listing(KEYS[700:], 0)] * 3
    policy = Policy(backoff=0, minimum_rate=1e15)
    with WireServer(steps, service=announced("records")) as server:
        with client(server, policy) as store, pytest.raises(TransportError) as caught:
            list(store.query_keys())
    assert caught.value.attempts == 4
