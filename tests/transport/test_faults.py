"""Every fault of a network, in every operation: the right result or a clear error, never a mixture.

A real server stands behind the proxy; what it holds in the end is looked at directly. It is the old
value or the new one, data and metadata of the same, and what is not the same twice was done once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kvstore import DynamicURLStore, MemoryStore
from kvstore.errors import (
    IntegrityError,
    InvalidMetadataError,
    InvalidRequestError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.events import StoreSetEvent
from kvstore.testing.http import live_server
from kvstore.transport.policy import Policy
from tests.cases import each
from tests.transport.fault_proxy import (
    Fault,
    FaultProxy,
    a_flipped_bit,
    done_but,
    down,
    garbage_before,
    garbage_behind,
    garbage_inside,
    half_the_body,
    half_the_head,
    late,
    lost_but_late,
    nothing,
    refuse,
    says,
    slowly,
    up,
    up_flipped,
    up_garbage,
    whole,
)
from tests.transport.wire_server import Wire, refused_port

OLD = (bytes(range(256)) * 2048, {"n": 1, "state": "old"})
NEW = (bytes(reversed(range(256))) * 2400, {"n": 2, "state": "new"})
#: So many, and so long, that their listing is read as it comes.
LISTED = [f"listed/{number:04}" for number in range(1500)]
FILLER = "x" * 250

PATIENT = Policy(backoff=0, minimum_rate=0)
#: For what only ends when the client gives up.
IMPATIENT = Policy(
    backoff=0,
    read_timeout=0.5,
    write_timeout=0.5,
    call_timeout=2,
    rate_window=0.3,
    minimum_rate=10_000,
)


class Behind:
    """The server, and what it holds."""

    def __init__(self, store: MemoryStore, url: str) -> None:
        self.store = store
        self.url = url
        self.writes = 0
        store.events.connect(StoreSetEvent, self.count)

    def count(self, event: StoreSetEvent) -> None:
        self.writes += 1

    def begin(self) -> None:
        self.store.set("k", OLD)
        self.writes = 0

    def state(self) -> tuple[bytes, Any] | None:
        if not self.store.exists("k"):
            return None
        value = self.store.get("k")
        return value.read(), value.metadata


@pytest.fixture
def _nothing_is_left_behind() -> None:
    """The server of this module begins threads when it needs them, and keeps them."""


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    store = MemoryStore()
    with live_server(store) as url:
        for key in LISTED:
            store.set_metadata(key, {"more": FILLER})
        yield Behind(store, url)


@dataclass(frozen=True)
class Operation:
    """What is done, what it gives, and what the server holds after it."""

    do: Callable[[DynamicURLStore, str | None], object]
    gives: object = None
    then: tuple[bytes, Any] | None = OLD
    #: Whether it may be sent again whatever became of it.
    repeatable: bool = True
    #: Whether it is sent again when the server says that it did nothing.
    replayable: bool = True
    #: Whether bytes that were changed on their way are known.
    checked: bool = True
    has_body: bool = True


OPERATIONS = {
    "get": Operation(lambda store, _: store.get("k").read(), OLD[0], has_body=False),
    "get data": Operation(lambda store, _: store.get_data("k").read(), OLD[0], has_body=False),
    "query": Operation(
        lambda store, _: list(store.query_keys(prefix="listed/")),
        LISTED,
        checked=False,  # there is no digest over a listing
        has_body=False,
    ),
    "set": Operation(lambda store, _: store.set("k", NEW) and None, then=NEW),
    "set data": Operation(
        lambda store, _: store.set_data("k", NEW[0]) and None, then=(NEW[0], OLD[1])
    ),
    "set stream": Operation(
        lambda store, _: store.set("k", (iter([NEW[0]]), NEW[1])) and None,
        then=NEW,
        repeatable=False,
        replayable=False,
    ),
    "set metadata": Operation(
        lambda store, _: store.set_metadata("k", NEW[1]) and None, then=(OLD[0], NEW[1])
    ),
    "update metadata": Operation(
        lambda store, _: store.update_metadata("k", NEW[1]) and None,
        then=(OLD[0], NEW[1]),
        repeatable=False,
    ),
    "delete": Operation(lambda store, _: store.delete("k"), then=None, has_body=False),
    "set if": Operation(lambda store, old: store.set("k", NEW, if_match=old) and None, then=NEW),
}
IDS = list(OPERATIONS)
#: What happens once or at most once, whatever the client repeats.
ONCE = ("set stream", "update metadata", "set if")


def outcome_of(operation: Operation, behind: Behind, proxy: FaultProxy, policy: Policy) -> Any:
    """What came of it, from the old value on: what it gave, or the error."""
    behind.begin()
    revision = behind.store.get("k").revision
    with DynamicURLStore(f"{proxy.url}/keys", f"{proxy.url}/query", policy=policy) as store:
        try:
            outcome: Any = operation.do(store, revision)
        except StoreError as error:
            outcome = error
    return outcome


def check(name: str, outcome: Any, behind: Behind) -> None:
    operation = OPERATIONS[name]
    state = behind.state()
    if isinstance(outcome, StoreError):
        assert state in (OLD, operation.then)
        assert str(outcome)
    else:
        assert outcome == operation.gives
        assert state == operation.then
    if name in ONCE:
        assert behind.writes <= 1


#: The server says that it did nothing, which is so.
UNDONE: dict[str, Fault] = {
    "503": says(503),
    "503 Retry-After": says(503, Retry_After=0),
    "429 Retry-After": says(429, Retry_After=0),
}
#: What was done, and whether at all, cannot be told.
DOUBTFUL: dict[str, Fault] = {
    "reset before the request": refuse,
    "reset within the request": up(Wire.reset),
    "request cut short": up(Wire.close),
    "500": says(500),
    "done, but 500": done_but(500),
    "done, but 504": done_but(504),
    "answer lost by a reset": down(nothing, Wire.reset),
    "answer lost by a close": down(nothing),
    "answer lost by a half close": down(nothing, Wire.half_close),
    "header block cut short": down(half_the_head),
    "answer cut short": down(half_the_body),
    "reset within the answer": down(half_the_body, Wire.reset),
    "half close within the answer": down(half_the_body, Wire.half_close),
}
#: What ends only when the client gives up.
SILENT: dict[str, Fault] = {
    "stall before the answer": down(nothing, Wire.hang),
    "stall within the answer": down(half_the_body, Wire.hang),
    "stall within the request": up(Wire.hang),
    "header block drips": slowly(half_the_head),
    "answer drips": slowly(half_the_body),
}
HARMLESS: dict[str, Fault] = {
    "latency": late(0.02),
    "garbage behind the answer": down(garbage_behind),
    "reset behind the answer": down(whole),
}
CHANGED: dict[str, Fault] = {
    "bit flipped in the answer": down(a_flipped_bit),
    "garbage within the answer": down(garbage_inside),
    "garbage before the answer": down(garbage_before),
    "bit flipped in the request": up_flipped,
    "garbage within the request": up_garbage,
}
everything = each("name", IDS)


@everything
@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS)
def test_what_does_no_harm(fault, name, behind):
    with FaultProxy(behind.url, ever=fault) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
    assert not isinstance(outcome, StoreError)
    check(name, outcome, behind)


@everything
@pytest.mark.parametrize("fault", UNDONE.values(), ids=UNDONE)
def test_what_the_server_did_not_do_is_done_after_all(fault, name, behind):
    with FaultProxy(behind.url, [fault, fault]) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
    assert isinstance(outcome, UnavailableError) is not OPERATIONS[name].replayable
    check(name, outcome, behind)


@everything
@pytest.mark.parametrize("fault", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_became_of_it_is_not_known(fault, name, behind):
    with FaultProxy(behind.url, [fault]) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
    if OPERATIONS[name].repeatable:
        assert not isinstance(outcome, StoreError)
    check(name, outcome, behind)


@everything
@pytest.mark.parametrize("fault", SILENT.values(), ids=SILENT)
def test_silence_is_not_waited_for(fault, name, behind):
    with FaultProxy(behind.url, [fault]) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, IMPATIENT)
    if OPERATIONS[name].repeatable:
        assert not isinstance(outcome, StoreError)
    check(name, outcome, behind)


@everything
@pytest.mark.parametrize("fault", CHANGED.values(), ids=CHANGED)
def test_other_bytes_than_were_sent_are_neither_given_nor_stored(fault, name, behind):
    operation = OPERATIONS[name]
    with FaultProxy(behind.url, [fault]) as proxy:
        outcome = outcome_of(operation, behind, proxy, PATIENT)
    if not operation.checked and fault in (CHANGED["bit flipped in the answer"],):
        return
    if name == "set stream" and fault in (up_flipped, up_garbage):
        # The digest of a stream is known behind it: what was stored is wrong, but said to be.
        assert isinstance(outcome, (IntegrityError, InvalidRequestError, InvalidMetadataError))
        return
    check(name, outcome, behind)


#: For good, so that the result need not come; but the end must.
FOR_GOOD: dict[str, tuple[Fault, Policy]] = {
    name: (fault, PATIENT) for name, fault in {**UNDONE, **DOUBTFUL, **CHANGED}.items()
} | {
    name: (fault, Policy(**{**vars_of, "deadline": 1.0}))
    for name, fault in SILENT.items()
    for vars_of in [{name: getattr(IMPATIENT, name) for name in ("backoff", "read_timeout")}]
}


@everything
@pytest.mark.parametrize(("fault", "policy"), FOR_GOOD.values(), ids=FOR_GOOD)
def test_what_never_ends_is_given_up(fault, policy, name, behind):
    with FaultProxy(behind.url, ever=fault) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, policy)
    if OPERATIONS[name].checked and not (
        name == "set stream" and fault in (up_flipped, up_garbage)
    ):
        check(name, outcome, behind)


@everything
def test_a_server_that_asks_for_more_patience_than_there_is(name, behind):
    with FaultProxy(behind.url, ever=says(503, Retry_After=3600)) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
        assert len(proxy.seen) == 1
    assert isinstance(outcome, UnavailableError)
    assert outcome.retry_after == 3600
    assert behind.state() == OLD


@everything
def test_a_server_that_is_not_there(name, behind):
    url = f"http://127.0.0.1:{refused_port()}"
    with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=PATIENT) as store:
        with pytest.raises(TransportError) as caught:
            OPERATIONS[name].do(store, "r")
    assert caught.value.attempts == PATIENT.attempts


# -- late duplicates -----------------------------------------------------------------------

NEWEST = (b"newest", {"state": "newest"})


@pytest.mark.parametrize("name", ["set", "set if", "delete"])
def test_a_late_duplicate_of_what_was_repeated(name, behind):
    with FaultProxy(behind.url, [lost_but_late]) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
        check(name, outcome, behind)
        behind.store.set("k", NEWEST)
        (status,) = proxy.deliver()
    if name == "set if":
        assert (status, behind.state()) == (412, NEWEST)
    else:  # the last to arrive wins, as nobody can tell it from a new wish
        assert (status, behind.state()) == (204, OPERATIONS[name].then)


@pytest.mark.parametrize("name", ["update metadata", "set stream"])
def test_what_is_not_repeated_may_still_arrive_once(name, behind):
    with FaultProxy(behind.url, [lost_but_late]) as proxy:
        outcome = outcome_of(OPERATIONS[name], behind, proxy, PATIENT)
        assert isinstance(outcome, TransportError)
        assert behind.state() == OLD
        assert proxy.deliver() == [204]
    assert behind.state() == OPERATIONS[name].then
    assert behind.writes == 1
