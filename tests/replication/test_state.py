from __future__ import annotations

import random
import re

import pytest

from kvstore.errors import DamagedError, InvalidMetadataError, TooLargeError
from kvstore.replication import sync
from kvstore.replication.state import Entry, State
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.replication.pairs import fill, pair
from tests.replication.test_sync import counts


@pytest.fixture
def store():
    with MemoryStore() as store:
        yield store


def read(store, prefix=""):
    return [entry.key for entry in State(store, "lab").entries(prefix)]


def test_entries_are_read_in_order_whatever_order_they_came_in(store):
    keys = [f"{'ab☃'[number % 3]}/{number:04}" for number in range(2500)]
    random.Random(7).shuffle(keys)
    state = State(store, "lab")
    for number, key in enumerate(keys):
        state.put(Entry(key, "s", "d"))
        if number % 100 == 0:
            state.save()
    state.save()
    assert read(store) == sorted(keys)
    assert read(store, "b/") == sorted(key for key in keys if key.startswith("b/"))
    assert read(store, "☃/4") == sorted(key for key in keys if key.startswith("☃/4"))
    assert read(store, "c") == []
    names = list(store.query_keys())
    assert 2 < len(names) < 7
    assert all(re.fullmatch(r"\.sync/lab/k[0-9a-f]*", name) for name in names)
    assert all(store.get(name).size < 1500 * 30 for name in names)

    for key in keys[::2]:
        state.forget(key)
    state.save()
    assert read(store) == sorted(keys[1::2])
    assert State(store, "lab").get(keys[1]) == Entry(keys[1], "s", "d")
    assert State(store, "lab").get(keys[0]) is None


def test_nothing_is_written_that_was_not_changed(store):
    state = State(store, "lab")
    state.put(Entry("a", "s", None))
    state.save()
    before = store.record(".sync/lab/k").revision
    state.save()
    state.forget("b")
    state.save()
    assert store.record(".sync/lab/k").revision == before


def test_keys_that_begin_alike_for_long_stay_together(store):
    state = State(store, "lab")
    keys = [f"{'x' * 900}{number:04}" for number in range(3000)]
    for key in keys:
        state.put(Entry(key, "s", "d"))
    state.save()
    assert read(store) == keys


def test_who_is_killed_while_he_parts_one_leaves_nothing_twice(store):
    state = State(store, "lab")
    for number in range(1600):
        state.put(Entry(f"{number:04}", "s", "d"))
    write, calls = store._write, []

    def killed(key, change):
        calls.append(key)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(key, change)

    # The second half is written first; the first one still has all of it, if it was there before.
    store.set_data(".sync/lab/k", b"".join(state._shards[""].entries[k].line() for k in
                                           sorted(state._shards[""].entries)))  # fmt: skip
    state._shards[""].revision = store.record(".sync/lab/k").revision
    store._write = killed
    with pytest.raises(KeyboardInterrupt):
        state.save()
    store._write = write
    assert len(calls) == 2
    assert read(store) == [f"{number:04}" for number in range(1600)]
    again = State(store, "lab")
    again.forget("1500")
    again.put(Entry("0001", "new", "d"))
    again.save()
    assert read(store) == [f"{number:04}" for number in range(1600) if number != 1500]


def test_two_runs_at_once_keep_what_both_know(store):
    one, two = State(store, "lab"), State(store, "lab")
    one.put(Entry("a", "1", "1"))
    two.put(Entry("b", "2", "2"))
    one.save()
    two.save()
    one.put(Entry("c", "1", "1"))
    one.forget("b")
    two.put(Entry("d", "2", "2"))
    two.save()
    one.save()
    assert read(store) == ["a", "b", "c", "d"]  # the one never knew of "b"


@each(
    "data",
    [
        b"no json\n",
        b"{}\n",
        b'["a"]\n',
        b'["a",1,"d"]\n',
        b'["a","s","d",false]\n',
        b'["a","s","d",null]\n',
        b'["a","s","d","e","f"]\n',
        b"[" * 10_000 + b"\n",
    ],
)
def test_what_is_no_state_is_refused(store, data):
    store.set(".sync/lab/k", data)
    with pytest.raises(DamagedError, match="is no state"):
        State(store, "lab").get("a")


def test_what_is_too_large_for_a_state_is_not_read(store):
    store.set(".sync/lab/k", b"\n" * ((16 << 20) + 1))
    with pytest.raises(TooLargeError):
        State(store, "lab").get("a")


def test_other_keys_there_are_left_alone(store):
    store.set(".sync/lab/kzz", b"who knows")
    store.set(".sync/lab2/k", b"other")
    state = State(store, "lab")
    state.put(Entry("a", "s", "d"))
    state.save()
    assert read(store) == ["a"]


def test_a_name_makes_the_source_known_wherever_it_is():
    with pair() as (source, destination), MemoryStore() as moved:
        fill(source, "ab")
        fill(moved, "a")
        sync(source, destination, name="lab")
        assert {key for key in destination.query_keys() if key.startswith(".")} == {".sync/lab/k"}
        assert counts(sync(moved, destination, name="lab")) == {"same": 1, "deleted": 1}


def test_users_have_states_of_their_own():
    with MemoryStore(user_tag="ann") as source, MemoryStore() as destination:
        fill(source, "ab")
        sync(source, destination)
        source.connect("bob")
        sync(source, destination)
        names = {key.split("/")[1] for key in destination.query_keys(prefix=".sync/")}
        assert len(names) == 2


def test_what_is_remembered_may_be_kept_elsewhere():
    schema = {"required": ["n"]}
    with (
        MemoryStore() as source,
        MemoryStore(metadata_schema=schema) as destination,
        MemoryStore() as memory,
    ):
        fill(source, "ab")
        source.set("large", b"x" * 100_000, metadata={"n": 1})
        with pytest.raises(InvalidMetadataError):
            sync(source, destination)
        assert counts(sync(source, destination, memory=memory)) == {"sent": 3}
        source.delete("a")
        source.set("c", b"", metadata={})
        report = sync(source, destination, memory=memory)
        assert counts(report) == {"same": 2, "deleted": 1, "failed": 1}
        assert "schema" in report.failures[0].reason
        assert list(destination.query_keys()) == ["b", "large"]
