from __future__ import annotations

import pytest

from kvstore.errors import KeyNotFoundError
from kvstore.replication import sync
from tests.replication.pairs import content, fill, pair
from tests.replication.test_sync import counts


def left_at(store, key):
    try:
        return store.to_bytes(key)
    except KeyNotFoundError:
        return None


def change(store, key, data):
    if data is None:
        store.delete(key)
    elif data != "same":
        store.set_data(key, data)


#: What both sides do to a key that was in step, and what that is with each rule: the outcome, and
#: what the destination has then.
CASES = [
    (b"mine", b"theirs", "changed at the source, and changed", b"mine", b"theirs"),
    (b"mine", None, "changed at the source, and deleted", b"mine", None),
    ("same", b"theirs", "It was changed at the destination", b"k", b"theirs"),
    ("same", None, "It was deleted at the destination", b"k", None),
    (None, b"theirs", "gone at the source, and was changed", None, b"theirs"),
]


@pytest.mark.parametrize(("mine", "theirs", "reason", "if_source", "if_destination"), CASES)
def test_both_sides_changed(mine, theirs, reason, if_source, if_destination):
    with pair() as (source, destination):
        fill(source, ["k", "other"])
        sync(source, destination)
        change(source, "k", mine)
        change(destination, "k", theirs)

        for _ in range(2):  # it is told again until somebody has decided
            report = sync(source, destination)
            assert counts(report) == {"same": 1, "conflicted": 1}
            (conflict,) = report.conflicts
            assert conflict.key == "k"
            assert reason in conflict.reason
            assert left_at(destination, "k") == theirs

        assert counts(sync(source, destination, on_conflict="destination")) == {
            "same": 1,
            "kept": 1,
        }
        assert left_at(destination, "k") == if_destination
        report = sync(source, destination)
        assert report.is_complete

        sync(source, destination, on_conflict="source")
        if mine is not None:  # else the key is theirs alone now, and nobody's business
            assert left_at(destination, "k") == if_source
            assert content(source) == content(destination)


def test_the_source_wins():
    for mine, theirs, _, if_source, _ in CASES:
        with pair() as (source, destination):
            fill(source, ["k", "other"])
            sync(source, destination)
            change(source, "k", mine)
            change(destination, "k", theirs)
            assert sync(source, destination, on_conflict="source").is_complete
            assert left_at(destination, "k") == if_source
            assert counts(sync(source, destination)) == {"same": len(content(source))}


def test_what_was_settled_for_the_destination_is_not_overwritten_later():
    with pair() as (source, destination):
        fill(source, ["k"])
        destination.set("k", b"theirs")
        report = sync(source, destination)
        assert "did not come from this source" in report.conflicts[0].reason
        assert counts(sync(source, destination, on_conflict="destination")) == {"kept": 1}
        destination.set("k", b"theirs again")
        assert counts(sync(source, destination)) == {"kept": 1}
        source.set("k", b"mine")
        assert counts(sync(source, destination)) == {"conflicted": 1}
        assert destination.to_bytes("k") == b"theirs again"
        source.set("more", b"")
        source.delete("k")
        report = sync(source, destination)
        assert counts(report) == {"sent": 1, "kept": 1}
        assert destination.exists("k")
        assert counts(sync(source, destination)) == {"same": 1}


def test_the_same_change_on_both_sides_is_no_conflict():
    with pair() as (source, destination):
        fill(source, ["a", "b"])
        sync(source, destination)
        for store in (source, destination):
            store.set("a", b"both", metadata={"x": 1})
            store.delete("b")
        assert counts(sync(source, destination)) == {"same": 1}
        assert counts(sync(source, destination)) == {"same": 1}


def test_two_stores_that_follow_each_other():
    with pair() as (first, second):
        fill(first, ["a", "b"])
        assert counts(sync(first, second)) == {"sent": 2}
        assert counts(sync(second, first)) == {"same": 2}
        first.set("a", b"new")
        assert counts(sync(first, second)) == {"same": 1, "sent": 1}
        assert counts(sync(second, first)) == {"same": 2}
        second.delete("b")
        second.set("c", b"c")
        assert counts(sync(second, first)) == {"same": 1, "sent": 1, "deleted": 1}
        assert counts(sync(first, second)) == {"same": 2}
        assert content(first) == content(second)


def test_a_write_that_comes_between_is_a_conflict_and_stays():
    with pair() as (source, destination):
        fill(source, ["a", "b"])
        source.set("large", b"x" * 100_000)
        # It is found when the condition of the write does not hold, not before.
        write = destination._write

        def meddled(key, change):
            if key == "large" and not destination.exists("large"):
                write(key, type(change)(data=type(change.data)(b"theirs"), metadata={}))
            return write(key, change)

        destination._write = meddled
        report = sync(source, destination)
        assert counts(report) == {"sent": 2, "conflicted": 1}
        assert destination.to_bytes("large") == b"theirs"
