from __future__ import annotations

import itertools
import threading

import pytest

from kvstore.compose import AuthorizedStore, ReadOnly
from kvstore.errors import IntegrityError, InvalidRequestError, StorageFullError, TransportError
from kvstore.opening import open_store
from kvstore.replication import SyncReport, sync
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.replication.pairs import content, fill, is_ours, pair

KINDS = ("memory:", "sqlite:{}", "file:{}")


def counts(report: SyncReport) -> dict[str, int]:
    names = ("same", "sent", "updated", "deleted", "kept", "conflicted", "failed")
    return {name: number for name in names if (number := getattr(report, name))}


@pytest.mark.parametrize(("read", "write"), list(itertools.product(KINDS, KINDS)))
def test_any_store_follows_any_other(tmp_path, read, write):
    with (
        open_store(read.format(tmp_path / "a")) as source,
        open_store(write.format(tmp_path / "b")) as destination,
    ):
        for number in range(20):
            source.set(f"k/{number}", b"x" * number, metadata={"n": number}, mimetype="text/plain")
        source.set("large", b"y" * 300_000, metadata={"tags": ["a", None]})
        source.set("ünï/☃", b"")
        assert counts(sync(source, destination)) == {"sent": 22}
        assert content(destination) == content(source)

        source.update_metadata("k/3", {"more": True})
        source.set_data("k/4", b"new")
        source.delete("k/5")
        source.set("k/new", b"new")
        report = sync(source, destination)
        assert counts(report) == {"same": 19, "sent": 2, "updated": 1, "deleted": 1}
        assert report.size == 6
        assert content(destination) == content(source)
        assert counts(sync(source, destination)) == {"same": 22}


def test_what_is_there_already_is_not_sent():
    with pair() as (source, destination):
        fill(source, "abc")
        fill(destination, "abc")
        destination.update_metadata("b", {"n": 7})
        report = sync(source, destination, on_conflict="source")
        assert counts(report) == {"same": 2, "updated": 1}
        assert not source.read
        assert content(destination) == content(source)


def test_only_what_was_changed_travels():
    with pair() as (source, destination):
        fill(source, "abc")
        sync(source, destination)
        source.forget()
        source.update_metadata("a", {"x": 1})
        source.set_metadata("c", {})
        assert counts(sync(source, destination)) == {"same": 1, "updated": 2}
        assert not source.read
        assert content(destination) == content(source)


def test_keys_that_never_came_from_the_source_stay():
    with pair() as (source, destination):
        fill(source, "a")
        fill(destination, "z")
        assert counts(sync(source, destination)) == {"sent": 1}
        assert destination.exists("z")


def test_what_is_remembered_does_not_travel_itself():
    with pair() as (first, second), MemoryStore() as third:
        fill(first, "ab")
        sync(first, second)
        assert counts(sync(second, third)) == {"sent": 2}
        assert counts(sync(third, first)) == {"same": 2}
        assert counts(sync(first, second)) == {"same": 2}
        for store in (first, second, third):
            assert len([key for key in store.query_keys() if not is_ours(key)]) <= 1


def test_a_filter_chooses_what_travels_and_deletes_nothing():
    with pair() as (source, destination):
        for number in range(100):
            source.set(f"k/{number:02}", b"x", metadata={"n": number})
        assert counts(sync(source, destination, where={"n": {"lt": 50}})) == {"sent": 50}
        # No more than half of them are found now, few of the others are gone.
        source.delete("k/01")
        report = sync(source, destination, where={"n": {"ge": 40}})
        assert counts(report) == {"same": 10, "sent": 50, "deleted": 1}
        source.delete("k/02")
        report = sync(source, destination, where={"n": {"ge": 10}})
        assert counts(report) == {"same": 90, "deleted": 1}
        source.update_metadata("k/03", {"n": 1000})
        assert counts(sync(source, destination, prefix="k/0", where={"n": 1000})) == {"updated": 1}
        assert content(destination) == content(source)


def test_a_prefix_chooses_what_travels():
    with pair() as (source, destination):
        fill(source, ["a/1", "a/2", "b/1"])
        assert counts(sync(source, destination, prefix="a/")) == {"sent": 2}
        source.delete("a/1")
        source.delete("b/1")
        assert counts(sync(source, destination, prefix="a/")) == {"same": 1, "deleted": 1}
        assert list(content(destination)) == ["a/2"]


def test_deletions_may_be_kept():
    with pair() as (source, destination):
        fill(source, "ab")
        sync(source, destination)
        source.delete("a")
        report = sync(source, destination, deletions="keep")
        assert counts(report) == {"same": 1, "kept": 1}
        assert destination.exists("a")
        assert counts(sync(source, destination)) == {"same": 1, "deleted": 1}
        assert counts(sync(source, destination)) == {"same": 1}


def test_an_empty_source_deletes_nothing_unless_it_is_told_to_win():
    with pair() as (source, destination):
        fill(source, "ab")
        sync(source, destination)
        source.delete("a")
        source.delete("b")
        report = sync(source, destination)
        assert counts(report) == {"conflicted": 2}
        assert "no keys at all" in report.conflicts[0].reason
        assert list(content(destination)) == ["a", "b"]
        assert counts(sync(source, destination, on_conflict="source")) == {"deleted": 2}
        assert content(destination) == {}


def test_permissions_travel_if_they_are_asked_for():
    with pair() as (source, destination):
        fill(source, "abc")
        source.set("large", b"x" * 100_000)
        for key in ("a", "large"):
            source.update_permissions(key, {"read": {"bob"}})
        assert counts(sync(source, destination)) == {"sent": 4}
        assert "read" not in destination.get_permissions("a")
        assert counts(sync(source, destination, permissions="copy")) == {"same": 4}
        source.update_permissions("b", {"read": {"eve"}})
        source.update_permissions("c", {"read": {"eve"}})
        source.update_metadata("c", {"x": 1})
        report = sync(source, destination, permissions="copy")
        assert counts(report) == {"same": 2, "updated": 2}
        assert report.size == 0
        for key in "bc":
            assert destination.get_permissions(key) == source.get_permissions(key)
            assert destination.get_metadata(key) == source.get_metadata(key)
        with MemoryStore() as third:
            assert counts(sync(source, third, permissions="copy")) == {"sent": 4}
            for key in ("a", "b", "c", "large"):
                assert third.get_permissions(key) == source.get_permissions(key)


def test_what_the_user_may_not_write_fails_alone():
    with pair() as (source, inner):
        fill(source, "abcd")
        inner.set("b", b"theirs")
        inner.set_permissions("b", {"owned": {"boss"}, "read": {"ann"}})
        inner.set("c", b"hidden")
        inner.set_permissions("c", {"owned": {"boss"}})
        with AuthorizedStore(inner, "ann") as destination:
            report = sync(source, destination, on_conflict="source")
            assert counts(report) == {"sent": 2, "failed": 2}
            assert [outcome.key for outcome in report.failures] == ["b", "c"]
            assert all("may not write" in outcome.reason for outcome in report.failures)
            assert inner.to_bytes("b") == b"theirs"
            assert inner.get_permissions("a") == {"owned": {"ann"}}
            # Another user knows nothing of it, and is not kept from his own.
            with AuthorizedStore(inner, "bob") as other:
                assert counts(sync(source, other, on_conflict="source")) == {"failed": 4}


def test_a_record_that_fails_is_tried_again_and_blocks_no_other():
    with pair() as (source, destination):
        fill(source, "abcd")
        source.broken["a"] = [IntegrityError("torn") for _ in range(2)]
        destination.broken["b"] = [TransportError("cut") for _ in range(3)]
        source.broken["c"] = [IntegrityError("torn for good") for _ in range(100)]
        destination.broken["d"] = [InvalidRequestError("not with me") for _ in range(2)]
        report = sync(source, destination)
        assert counts(report) == {"sent": 2, "failed": 2}
        reasons = {outcome.key: outcome.reason for outcome in report.failures}
        assert reasons == {"c": "torn for good", "d": "not with me"}
        assert source.read["c"] == 3
        assert not report.is_complete
        source.broken.clear()
        report = sync(source, destination)
        assert counts(report) == {"same": 2, "sent": 2}
        assert report.is_complete
        assert content(destination) == content(source)


@pytest.mark.parametrize("error", [TransportError("no answer"), StorageFullError("no answer")])
def test_a_destination_that_is_gone_or_full_ends_it(error):
    with pair() as (source, destination):
        fill(source, map(str, range(100)))
        for key in source.query_keys():
            destination.broken[key] = [error] * 100
        with pytest.raises(type(error), match="no answer"):
            sync(source, destination)
        assert sum(destination.written.values()) < 60


def test_outcomes_are_told_as_they_come():
    told = []
    moved = []

    def transfer(key):
        return lambda done, total: moved.append((key, done, total))

    with pair() as (source, destination):
        fill(source, "ab")
        source.set("large", b"x" * 100_000)
        sync(source, destination, tell=told.append, transfer=transfer)
    assert sorted((each.key, each.status, each.size) for each in told) == [
        ("a", "sent", 1),
        ("b", "sent", 1),
        ("large", "sent", 100_000),
    ]
    assert moved[-1] == ("large", 100_000, 100_000)


def test_what_a_record_requires_travels_first():
    order = []
    with pair() as (source, destination):
        source.set("run/1", b"1", metadata={"of": ["cam/2", "cam/1"], "run": True})
        source.set("run/2", b"2", metadata={"of": "cam/1", "run": True})
        source.set("run/3", b"3", metadata={"of": "cam/0", "run": True})
        source.set("run/4", b"4", metadata={"of": [4], "run": True})
        source.set("run/5", b"5", metadata={"of": "../x", "run": True})
        source.set("run/6", b"6", metadata={"of": "run/7", "run": True})
        source.set("run/7", b"7", metadata={"of": "run/6", "run": True})
        source.set("run/8", b"8", metadata={"of": "there", "run": True})
        source.set("run/9", b"9", metadata={"of": "cam/9", "run": True})
        source.set("cam/1", b"c")
        source.set("cam/2", b"c", metadata={"of": "lab"})
        source.set("cam/9", b"c", metadata={"of": "cam/8"})
        source.set("lab", b"l")
        destination.set("there", b"")
        report = sync(source, destination, where={"run": True}, requires="of", tell=order.append)
        assert counts(report) == {"sent": 8, "failed": 5}
        place = {outcome.key: number for number, outcome in enumerate(order)}
        assert len(place) == len(order)
        assert place["lab"] < place["cam/2"] < place["run/1"]
        assert place["cam/1"] < place["run/2"]
        reasons = {outcome.key: outcome.reason for outcome in report.failures}
        assert set(reasons) == {"run/3", "run/4", "run/5", "run/9", "cam/9"}
        assert reasons["run/3"] == "It needs 'cam/0', which is not at the destination."
        source.set("cam/0", b"c")
        source.set("cam/8", b"c")
        report = sync(source, destination, where={"run": True}, requires="of")
        assert counts(report) == {"same": 5, "sent": 5, "failed": 2}


@each(
    "rule",
    [
        {"on_conflict": "both"},
        {"deletions": True},
        {"permissions": "yes"},
        {"attempts": 0},
        {"attempts": True},
        {"requires": ""},
        {"name": "a/b"},
        {"name": ""},
        {"name": ".."},
        {"where": {"n": {"like": 1}}},
        {"prefix": 3},
    ],
)
def test_a_rule_without_a_meaning_is_refused(rule):
    with pair() as (source, destination), pytest.raises(InvalidRequestError):
        sync(source, destination, **rule)


def test_a_destination_that_cannot_be_written_is_refused():
    with pair() as (source, destination):
        with pytest.raises(InvalidRequestError, match="read-only"):
            sync(source, ReadOnly(destination))  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="cannot follow itself"):
            sync(source, source)


def test_two_runs_at_once_end_as_one():
    keys = [f"k/{number:03}" for number in range(400)]
    reports: list[SyncReport] = []
    with pair() as (source, destination):
        fill(source, keys)
        runs = [
            threading.Thread(
                target=lambda: reports.append(sync(source, destination, name="lab", attempts=20))
            )
            for _ in range(3)
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert [report.is_complete for report in reports] == [True] * 3
        assert content(destination) == content(source)
        assert counts(sync(source, destination, name="lab")) == {"same": 400}


def test_a_listing_that_was_cut_short_deletes_nothing():
    with pair() as (source, destination):
        fill(source, "abcd")
        sync(source, destination)
        query = source._query
        source._query = lambda asked: itertools.islice(query(asked), 2)  # type: ignore[method-assign]
        source.delete("d")
        report = sync(source, destination)
        assert list(content(destination)) == ["a", "b", "c"]
        assert counts(report) == {"same": 3, "deleted": 1}
        assert not destination.written["c"] > 1


def test_a_listing_without_order_is_refused():
    with pair() as (source, destination):
        fill(source, "abc")
        query = source._query
        source._query = lambda asked: reversed([*query(asked)])  # type: ignore[assignment]
        with pytest.raises(IntegrityError, match="lists 'b' after 'c'"):
            sync(source, destination)
