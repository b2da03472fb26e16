"""The primitives of a store on a server, whatever protocol that speaks."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO, TypeVar

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject
from kvstore.errors import KeyNotFoundError
from kvstore.events import Progress, StoreDeleteEvent
from kvstore.history import JournalEntry
from kvstore.hub import EventHub
from kvstore.noticing import Halt, OwnChange
from kvstore.parallel import Crew, in_order
from kvstore.profiles.having import Claim, Finding
from kvstore.query import Query
from kvstore.transport.dialect import Dialect
from kvstore.transport.fetching import fetch_in_ranges, may_fetch_in_ranges
from kvstore.transport.policy import Policy
from kvstore.transport.together import write_each
from kvstore.values import Permissions, ProgressCallback, Record, Value
from kvstore.writes import Change, Condition, Written, missing

_T = TypeVar("_T")


class RemoteStore(AuthorizingStore):
    """A store that asks a `Dialect` for everything.

    Args:
        policy: how many requests are made at a time.
        verify_digests: whether data is checked.
        events, metadata_schema: as for every store.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        verify_digests: bool,
        events: EventHub | None,
        metadata_schema: JsonObject | None,
    ) -> None:
        super().__init__(events=events, metadata_schema=metadata_schema)
        self._policy = policy
        self._verify_digests = verify_digests
        self._crew = Crew(policy.workers, policy.quick)

    @abstractmethod
    def _server(self) -> Dialect:
        """Return the conversation with the server, which is begun if it is not."""

    def compare(self, claims: Iterable[Claim]) -> Iterator[Finding]:
        """Yield what the server has of each claim, in their order, by as few requests as it allows.

        As many claims as fit into a request are taken ahead of what is yielded.

        Raises:
            UnsupportedOperationError: the server has no means for it: no ``have`` in its
                ``info()["capabilities"]``.
        """
        self._ready()
        return self._server().compare(claims)

    def _get(self, key: str) -> Value:
        record, opener = self._server().read_value(key)
        return Value(record, opener, lambda: self._get_permissions(key))

    def _get_if_changed(self, key: str, revision: str) -> Value | None:
        found = self._server().read_if_changed(key, revision)
        return None if found is None else Value(*found, lambda: self._get_permissions(key))

    def _record(self, key: str) -> Record:
        return self._server().record(key)

    def _metadata(self, key: str) -> JsonObject:
        return self._server().metadata(key)

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return self._server().open_data(key, start, end)

    def _exists(self, key: str) -> bool:
        return self._server().exists(key)

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return self._query(Query(prefix=prefix, after=after))

    def _query(self, query: Query) -> Iterator[Record]:
        return self._server().find(query, keys_only=False)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._server().find(query, keys_only=True)

    def _count(self, query: Query) -> int:
        return self._server().count(query)

    def _write(self, key: str, change: Change) -> Written:
        server = self._server()
        if change.check_metadata is not None and (
            change.metadata is not None or change.data is not None
        ):
            keeps = change.merge or change.metadata is None
            old = _metadata_before(server, key) if keeps else None
            before = None if old is None else Record(key, old, -1)
            if before is None and change.needs_key:
                raise missing(key)
            change.new_metadata(before)
        return server.send_change(key, change)

    def _to_file(
        self,
        key: str,
        path: str | PathLike[str],
        buffer_size: int,
        progress: ProgressCallback | None,
    ) -> None:
        server, target = self._server(), Path(path)
        if self._policy.ranges > 1 and server.has_ranges:
            record = server.record(key)
            if may_fetch_in_ranges(record, target):
                bar = Progress(self.events, self, key, f"get {key}", record.size, progress)
                with bar:
                    fetch_in_ranges(
                        lambda start, end: server.open_revision(record, start, end),
                        record,
                        target,
                        self._policy.ranges,
                        bar.step,
                        verify=self._verify_digests,
                    )
                return
        super()._to_file(key, path, buffer_size, progress)

    def _each(self, call: Callable[[str], _T], keys: Iterable[str]) -> Iterator[_T]:
        return in_order(self._crew, call, keys, drop=_given_up)

    def _write_each(
        self, changes: Iterable[tuple[str, Change]]
    ) -> Iterator[tuple[str, Change, Written]]:
        server = self._server()
        return write_each(server, self._crew, changes, self._write_reported, self._reported)

    @contextlib.contextmanager
    def _reported(self, key: str, change: Change) -> Iterator[OwnChange]:
        source = change.data
        size = source.size if source is not None else None
        total = -1 if size is None else size
        with contextlib.ExitStack() as stack:
            if source is not None:
                bar = Progress(self.events, self, key, f"set {key}", total)
                stack.enter_context(bar)
                source.report = bar.step if bar.active else None
            yield stack.enter_context(self._own_change(key))

    def _versions(self, key: str) -> list[Record]:
        return self._server().versions(key)

    def _get_version(self, key: str, version: str) -> Value:
        # The permissions of then are told by nobody, and those of now are not those of then.
        return Value(*self._server().read_version(key, version))

    def _restore(self, key: str, version: str, condition: Condition) -> Written:
        server = self._server()
        if self._fits_schema is not None:
            for record in server.versions(key):
                if record.revision == version:
                    self._fits_schema(record.metadata)
        return server.restore(key, version, condition)

    def _sequence(self) -> int:
        return self._server().sequence()

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        return self._server().changes(since, limit)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        return self._server().follow(since, halt)

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        server = self._server()
        metadata = None
        if self.events.has_listeners(StoreDeleteEvent):
            metadata = server.metadata(key)
        server.delete_key(key, condition)
        return metadata

    def _get_permissions(self, key: str) -> Permissions:
        return self._server().permissions(key)


def _given_up(result: object) -> None:
    """Close what was read ahead and is not wanted any more."""
    close = getattr(result, "close", None)
    if close is not None:
        close()


def _metadata_before(server: Dialect, key: str) -> JsonObject | None:
    try:
        return server.metadata(key)
    except KeyNotFoundError:
        return None
