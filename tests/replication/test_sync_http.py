from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from kvstore import BearerAuth, DynamicURLStore, MemoryStore
from kvstore.errors import StoreError
from kvstore.replication import sync
from kvstore.testing.http import live_server
from kvstore.transport.policy import Policy
from tests.replication.pairs import Counted, content, fill, is_ours
from tests.replication.test_sync import counts
from tests.server.access import lab_of
from tests.transport.fault_proxy import (
    FaultProxy,
    done_but,
    down,
    half_the_body,
    nothing,
    pass_on,
    refuse,
    says,
    up,
)
from tests.transport.wire_server import Wire

IMPATIENT = Policy(backoff=0, attempts=2, minimum_rate=0)


@contextlib.contextmanager
def reached(url: str, policy: Policy | None = None) -> Iterator[DynamicURLStore]:
    with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=policy or Policy()) as store:
        yield store


def kinds(proxy: FaultProxy) -> Counter[str]:
    """What was asked of a server, without the keys."""
    found: Counter[str] = Counter()
    for seen in proxy.seen:
        path = seen.target.partition("?")[0]
        what = "state" if ".sync" in seen.target else path.rsplit("/", 1)[-1]
        found[f"{seen.method} {what}"] += 1
    return found


def test_ten_thousand_keys_in_step_cost_one_pass_and_no_data():
    with Counted() as one, Counted() as two:
        fill(one, [f"runs/{number:05}" for number in range(10_000)])
        assert counts(sync(one, two, name="lab")) == {"sent": 10_000}
        for store in (one, two):
            store.forget()
        assert counts(sync(one, two, name="lab")) == {"same": 10_000}
        assert (one.passes, one.read) == ([""], {})
        # A pass of its own, and one for what is remembered: ten keys.
        assert len(two.passes) == 2
        assert len(two.read) == 10
        with (
            live_server(one) as first,
            live_server(two) as second,
            FaultProxy(first) as read,
            FaultProxy(second) as write,
            reached(read.url) as source,
            reached(write.url) as destination,
        ):
            assert counts(sync(source, destination, name="lab")) == {"same": 10_000}
            assert kinds(read) == {"GET query": 11}
            assert kinds(write) == {"POST have": 20, "GET state": 11}
        assert not one.read
        assert not any(map(is_ours, two.read))
        assert not two.written


@pytest.fixture(scope="module")
def servers():
    with (
        MemoryStore() as one,
        MemoryStore() as two,
        live_server(one) as first,
        live_server(two) as second,
    ):
        yield one, two, first, second


@pytest.fixture
def behind(servers):
    for store in servers[:2]:
        for key in list(store.query_keys()):
            store.delete(key)
    return servers


def test_new_keys_travel_together(behind):
    one, two, first, second = behind
    fill(one, [f"runs/{number:03}" for number in range(500)])
    with FaultProxy(second) as write, reached(first) as source, reached(write.url) as destination:
        assert counts(sync(source, destination)) == {"sent": 500}
        assert content(two) == content(one)
        # Twice what is about to be sent and then was, twice a batch.
        found = kinds(write)
        assert found.pop("GET state") + found.pop("PUT state") < 8
        assert found == {"POST have": 1, "POST batch": 2}


def test_changes_deletions_and_conflicts(behind):
    one, two, first, second = behind
    fill(one, "abcdef")
    one.set("large", b"x" * 200_000)
    with reached(first) as source, reached(second) as destination:
        assert counts(sync(source, destination)) == {"sent": 7}
        one.set("a", b"new")
        one.update_metadata("b", {"x": 1})
        one.delete("c")
        two.set("d", b"theirs")
        two.delete("e")
        one.set("f", b"mine")
        two.set("f", b"theirs")
        report = sync(source, destination)
        assert counts(report) == {
            "same": 1,
            "sent": 1,
            "updated": 1,
            "deleted": 1,
            "conflicted": 3,
        }
        assert [outcome.key for outcome in report.conflicts] == ["d", "e", "f"]
        assert two.to_bytes("f") == b"theirs"
        assert counts(sync(source, destination, on_conflict="source")) == {"same": 3, "sent": 3}
        assert content(two) == content(one)
        assert counts(sync(source, destination)) == {"same": 6}


def test_permissions_travel_over_http(behind):
    one, two, first, second = behind
    fill(one, "ab")
    one.update_permissions("a", {"read": {"bob"}})
    with reached(first) as source, reached(second) as destination:
        assert counts(sync(source, destination, permissions="copy")) == {"sent": 2}
        one.update_permissions("b", {"read": {"bob"}})
        assert counts(sync(source, destination, permissions="copy")) == {"same": 1, "updated": 1}
    for key in "ab":
        assert two.get_permissions(key) == one.get_permissions(key)


def test_a_server_decides_what_its_user_may_write(tmp_path, behind):
    one, _, first, _ = behind
    fill(one, "abc")
    with lab_of(MemoryStore(), tmp_path) as lab:
        lab.put("eve", "b")
        auth = BearerAuth(lab.token("ann"))
        destination = DynamicURLStore(f"{lab.url}/keys", f"{lab.url}/query")
        destination.connect((None, auth))
        with reached(first) as source, destination:
            report = sync(source, destination)
            assert counts(report) == {"sent": 2, "failed": 1}
            assert report.failures[0].key == "b"
            assert "may not write" in report.failures[0].reason
            assert counts(sync(source, destination)) == {"same": 2, "failed": 1}
        assert lab.store.get_permissions("a") == {"owned": {"ann"}}
        assert lab.store.to_bytes("b") == b"data"


FAULTS = [
    refuse,
    says(503),
    done_but(500),
    done_but(503),
    down(nothing, Wire.reset),
    down(half_the_body, Wire.reset),
    up(Wire.reset),
    pass_on,
]


@pytest.mark.parametrize("seed", range(2))
def test_after_any_cuts_it_goes_on_and_ends_equal(behind, seed):
    one, two, first, second = behind
    fill(one, [f"runs/{number:03}" for number in range(300)])
    one.set("large", b"x" * 100_000)
    dice = random.Random(seed)
    for turn in range(6):
        number = dice.randrange(250)
        one.set(f"runs/{number:03}", f"{turn}".encode(), metadata={"turn": turn})
        if one.exists(f"runs/{250 + turn:03}"):
            one.delete(f"runs/{250 + turn:03}")
        plans = [[dice.choice(FAULTS) for _ in range(12)] for _ in range(2)]
        with (
            FaultProxy(first, plans[0]) as read,
            FaultProxy(second, plans[1]) as write,
            reached(read.url, IMPATIENT) as source,
            reached(write.url, IMPATIENT) as destination,
            contextlib.suppress(StoreError),
        ):
            sync(source, destination, name="lab")
    with reached(first) as source, reached(second) as destination:
        report = sync(source, destination, name="lab")
        assert report.is_complete
        assert content(two) == content(one)
        assert counts(sync(source, destination, name="lab")) == {"same": len(content(one))}
