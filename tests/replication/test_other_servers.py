"""Servers that lack what ours have: no digests, no journal, no conditions, two requests a write."""

from __future__ import annotations

import pytest

import kvstore
from kvstore.errors import TransportError
from kvstore.replication import sync
from kvstore.transport.mapped import documents
from tests.interop.test_webdav import emptied, served  # noqa: F401 - a fixture
from tests.replication.pairs import Counted, content
from tests.replication.test_sync import counts
from tests.transport.basic_server import basic_server


@pytest.fixture
def dav(served):  # noqa: F811
    with kvstore.open(emptied(served), profile="webdav") as store:
        yield store


def fill(store, count=6):
    for number in range(count):
        metadata = {"n": number} if number % 2 else {}
        store.set(f"k/{number}", b"x" * number, metadata=metadata)


def test_a_file_server_is_followed(dav):
    with Counted() as destination:
        fill(dav)
        assert counts(sync(dav, destination)) == {"sent": 6}
        assert counts(sync(dav, destination)) == {"same": 6}
        dav.set_data("k/1", b"longer")
        dav.update_metadata("k/3", {"more": 1})
        dav.delete("k/4")
        destination.set("k/5", b"theirs")
        assert counts(sync(dav, destination)) == {
            "same": 2,
            "sent": 2,
            "deleted": 1,
            "conflicted": 1,
        }
        assert counts(sync(dav, destination, on_conflict="source")) == {"same": 4, "sent": 1}
        assert content(destination) == content(dav)
        # Who knows nothing any more compares, and sends nothing that is there.
        for key in list(destination.query_keys(prefix=".sync/")):
            destination.delete(key)
        destination.forget()
        assert counts(sync(dav, destination)) == {"same": 5}
        assert [key for key in destination.written if key.startswith("k/")] == []


def test_a_file_server_follows(dav):
    with Counted() as source:
        fill(source)
        assert counts(sync(source, dav)) == {"sent": 6}
        source.forget()
        assert counts(sync(source, dav)) == {"same": 6}
        assert not source.read
        source.set_data("k/1", b"longer")
        source.update_metadata("k/3", {"more": 1})
        source.delete("k/4")
        dav.set("k/5", b"theirs")
        assert counts(sync(source, dav)) == {"same": 2, "sent": 2, "deleted": 1, "conflicted": 1}
        assert dav.to_bytes("k/5") == b"theirs"
        assert counts(sync(source, dav, on_conflict="source")) == {"same": 4, "sent": 1}
        assert content(source) == content(dav)


def test_who_was_killed_between_data_and_metadata_goes_on(dav, monkeypatch):
    with Counted() as source:
        fill(source)
        settle, left = documents.settle, [None] * 2

        def killed(*args, **options):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            settle(*args, **options)

        monkeypatch.setattr(documents, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            sync(source, dav)
        assert content(dav) != content(source)
        monkeypatch.setattr(documents, "settle", settle)
        source.set("k/3", b"meanwhile")
        report = sync(source, dav)
        assert report.is_complete
        assert content(source) == content(dav)
        assert counts(sync(source, dav)) == {"same": 6}


@pytest.mark.parametrize("etags", [False, True])
def test_a_server_that_tells_keys_alone(etags):
    with (
        basic_server(etags=etags) as server,
        kvstore.DynamicURLStore(f"{server.url}/keys", f"{server.url}/query") as plain,
        Counted() as ours,
        Counted() as back,
    ):
        fill(plain)
        assert counts(sync(plain, ours)) == {"sent": 6}
        assert counts(sync(plain, ours)) == {"same": 6}
        plain.set_data("k/3", b"abc")  # as long as before
        plain.delete("k/4")
        server.entries["k/5"].metadata = {"new": 1}
        report = sync(plain, ours)
        # Where it tells nothing of the data they are read, so that one knows when they are equal.
        assert (report.sent, report.updated) == ((2, 0) if etags else (1, 1))
        assert (report.same, report.deleted) == (3, 1)
        assert content(ours) == content(plain)

        for key in list(plain.query_keys()):
            plain.delete(key)
        fill(back)
        assert counts(sync(back, plain)) == {"sent": 6}
        assert counts(sync(back, plain)) == {"same": 6}
        server.entries["k/2"].data = b"yy"
        back.set("k/3", b"new")
        assert counts(sync(back, plain)) == {"same": 4, "sent": 1, "conflicted": 1}
        assert counts(sync(back, plain, on_conflict="source")) == {"same": 5, "sent": 1}
        assert content(back) == content(plain)


def test_a_key_of_which_nothing_can_be_told_blocks_no_other():
    with (
        basic_server() as server,
        kvstore.DynamicURLStore(f"{server.url}/keys", f"{server.url}/query") as plain,
        Counted() as ours,
    ):
        fill(plain)
        sync(plain, ours)
        record = plain._record

        def broken(key):
            if key == "k/3":
                raise TransportError("The server has a bug.", status=500)
            return record(key)

        plain._record = broken  # type: ignore[method-assign]
        plain.set("k/5", b"new")
        report = sync(plain, ours)
        assert counts(report) == {"same": 4, "sent": 1, "failed": 1}
        assert report.failures[0].key == "k/3"
        assert ours.exists("k/3")
        report = sync(ours, plain, on_conflict="source")
        assert counts(report) == {"same": 5, "failed": 1}
