from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from kvstore import DynamicURLStore, FileSystemStore, MemoryStore
from kvstore.errors import TransportError
from kvstore.noticing import Halt
from kvstore.replication import Replication, Rules, follow
from kvstore.testing.http import live_server
from tests.replication.pairs import Counted, content, fill

BOUND = 20


class Following:
    """Follows in a thread, and waits for outcomes."""

    def __init__(self, source, destination, rules: Rules) -> None:
        self.halt = Halt()
        self.outcomes: list[str] = []
        self.complaints: list[Exception] = []
        self.failure: Exception | None = None
        self._came = threading.Condition()
        self._args = (source, destination, rules)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        source, destination, rules = self._args
        try:
            with Replication(source, destination, rules, tell=self._tell) as replication:
                follow(
                    replication,
                    source,
                    self.halt,
                    interval=0.01,
                    complain=self._complain,
                )
        except Exception as error:  # noqa: BLE001
            self.failure = error
            with self._came:
                self._came.notify_all()

    def _tell(self, outcome) -> None:
        with self._came:
            self.outcomes.append(f"{outcome.status} {outcome.key}")
            self._came.notify_all()

    def until(self, *outcomes: str) -> None:
        with self._came:
            done = self._came.wait_for(
                lambda: self.failure or {*outcomes} <= {*self.outcomes}, BOUND
            )
        assert not self.failure, self.failure
        assert done, self.outcomes

    def _complain(self, error: Exception) -> None:
        with self._came:
            self.complaints.append(error)
            self._came.notify_all()

    def until_complaint(self) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.complaints, BOUND)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.halt.set()
        self._thread.join(BOUND)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def sources(kind: str, folder) -> Iterator[tuple]:
    """A store that is followed, and the one by which others change it."""
    if kind == "http":
        with (
            MemoryStore() as inner,
            live_server(inner) as url,
            DynamicURLStore(f"{url}/keys", f"{url}/query") as store,
        ):
            yield store, inner
    elif kind == "file":
        with FileSystemStore(folder) as store, FileSystemStore(folder) as other:
            yield store, other
    else:
        with MemoryStore() as store:
            yield store, store


@pytest.mark.parametrize("kind", ["memory", "file", "http"])
def test_changes_travel_as_they_are_made(tmp_path, kind):
    with sources(kind, tmp_path) as (source, other), MemoryStore() as destination:
        other.set("a", b"a")
        other.set("b", b"b", metadata={"no": True})
        with Following(source, destination, Rules(where={"no": {"exists": False}})) as following:
            following.until("sent a")
            other.set("c", b"c")
            following.until("sent c")
            other.update_metadata("c", {"n": 1})
            following.until("updated c")
            other.set("b", b"b2", metadata={"no": True})
            other.delete("a")
            following.until("deleted a")
            destination.set("c", b"theirs")
            other.set("c", b"mine")
            following.until("conflict c")
        assert following.failure is None
        assert {key: data for key, (data, *_) in content(destination).items()} == {"c": b"theirs"}


def test_what_breaks_meanwhile_is_tried_again():
    with Counted() as source, MemoryStore() as destination:
        fill(source, "ab")
        with Following(source, destination, Rules()) as following:
            following.until("sent b")
            broken = [TransportError("gone", status=503) for _ in range(3)]
            query, record = destination._record, []

            def failing(key):
                if broken and key == "c":
                    record.append(key)
                    raise broken.pop()
                return query(key)

            destination._record = failing
            source.set("c", b"c")
            following.until("failed c")
            source.set("d", b"d")
            following.until("sent d")
            broken.clear()
            source.set("c", b"c2")
            following.until("sent c")
        assert content(destination) == content(source)


def test_a_destination_that_is_away_for_a_while():
    with Counted() as source, Counted() as destination:
        fill(source, "ab")
        with Following(source, destination, Rules()) as following:
            following.until("sent b")
            write, is_away = destination._write, threading.Event()

            def away(key, change):
                if is_away.is_set():
                    raise TransportError("The server is away.")
                return write(key, change)

            destination._write = away
            is_away.set()
            source.set("c", b"x" * 100_000)
            following.until_complaint()
            is_away.clear()
            following.until("sent c")
        assert [str(error) for error in following.complaints] == ["The server is away."]
        assert content(destination) == content(source)


def test_more_changes_than_are_remembered_make_a_pass():
    with MemoryStore(keep_changes=3) as source, MemoryStore() as destination:
        fill(source, "ab")
        with Following(source, destination, Rules()) as following:
            following.until("sent b")
            with source.transaction():
                for number in range(50):
                    source.set(f"n{number}", b"")
            following.until("sent n0", "sent n49")
        assert content(destination) == content(source)
