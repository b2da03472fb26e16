"""The contract, first part: what every store that can be read does. ``store`` has the rest.

``lifecycle`` has how a store is connected, ``history`` what it remembers, ``watching`` how it is
followed.

Public methods check their arguments, report progress and emit events here, once; a store
implements the private primitives (marked *Primitive*) and cannot forget any of it. Methods marked
*Shortcut* have an answer built on the primitives and may be given a faster one.

For all methods: a key is what :func:`kvstore.keys.check_key` says, else ``InvalidKeyError``; using
a store that is not connected is a ``NotConnectedError``; every error is a ``StoreError``. Stores
are safe to use from many threads, survive ``fork`` and pickle as their configuration. What is
returned is a copy. ``progress=`` takes a callable that is called as ``progress(done, total)`` in
bytes, total -1 where unknown; what it raises ends the operation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from os import PathLike
from typing import BinaryIO, TypeVar

from kvstore import files
from kvstore.documents import Json, JsonObject, copy_json
from kvstore.errors import InvalidRequestError, KeyNotFoundError
from kvstore.events import Progress
from kvstore.history import check_version
from kvstore.mapping import StoreMapping
from kvstore.matches import Matches
from kvstore.query import Query, check_select, run, trim
from kvstore.streams import Source
from kvstore.values import (
    BUFFER_SIZE,
    ProgressCallback,
    Record,
    Value,
    check_buffer_size,
    check_range,
    copy_record,
)
from kvstore.watching import Watchable

_T = TypeVar("_T")


class ReadOnlyStore(Watchable):
    """A store that can be read."""

    # -- one key ---------------------------------------------------------------------------

    def get(self, key: str, *, version: str | None = None) -> Value:
        """Return the value of *key*, or as it was at the revision *version*, if that is kept.

        Raises:
            KeyNotFoundError: no such key, or no such version of it.
        """
        if version is not None:
            return self._get_version(self._check(key), check_version(version))
        return self._get(self._check(key))

    def record(self, key: str) -> Record:
        """Return all facts about *key*: metadata, size, times, media type, revision, digest.

        Permissions too, where the store tells them at once.

        Raises:
            KeyNotFoundError: no such key.
        """
        return copy_record(self._record(self._check(key)))

    def get_data(self, key: str) -> BinaryIO:
        """Return a readable stream over the data; it is a context manager.

        Raises:
            KeyNotFoundError: no such key.
            IntegrityError: from the stream, before its last bytes, if they are not what was stored.
        """
        return self._open(self._check(key), None, None)

    def get_data_range(
        self, key: str, start: int | None = None, end: int | None = None
    ) -> BinaryIO:
        """Return a stream over the bytes from *start* to before *end*.

        None is the beginning, or the end. *end* may lie behind the data.

        Raises:
            KeyNotFoundError: no such key.
            RangeError: *start* behind the data or *end*, or a negative bound.
        """
        key = self._check(key)
        check_range(start, end, key=key)
        return self._open(key, start, end)

    def get_metadata(self, key: str, select: Iterable[str] | None = None) -> JsonObject:
        """Return the metadata, only the fields in *select* if given; absent ones are left out.

        Raises:
            KeyNotFoundError: no such key.
        """
        names = check_select(select)
        metadata: JsonObject = copy_json(trim(self._metadata(self._check(key)), names))
        return metadata

    def exists(self, key: str) -> bool:
        """Tell whether there is such a key (that the user may see)."""
        return self._exists(self._check(key))

    def to_file(
        self,
        key: str,
        path: str | PathLike[str],
        buffer_size: int = BUFFER_SIZE,
        *,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Write the data to the file *path*, which appears whole or not at all.

        Raises:
            KeyNotFoundError: no such key; the file is as it was.
            OSError: the file cannot be written.

        Events: StoreProgressStart, Step and End.
        """
        self._to_file(self._check(key), path, check_buffer_size(buffer_size), progress)

    def to_bytes(
        self,
        key: str,
        buffer_size: int = BUFFER_SIZE,
        *,
        progress: ProgressCallback | None = None,
    ) -> bytes:
        """Return all the data.

        Raises:
            KeyNotFoundError: no such key.

        Events: StoreProgressStart, Step and End.
        """
        check_buffer_size(buffer_size)
        value = self.get(key)
        bar = Progress(self.events, self, key, f"get {key}", value.size, progress)
        with closing(value), bar:
            if value.size <= buffer_size:
                data = value.read()
                bar.step(len(data))
                return data
            source = Source(value, buffer_size=buffer_size)
            source.report = bar.step
            return source.whole()

    # -- many keys -------------------------------------------------------------------------
    # A store may work on several keys at a time, and so take keys ahead of what it yields.

    def multiget(self, keys: Iterable[str]) -> Iterator[Value]:
        """Yield ``get(key)`` for each key, in order; errors come when the key is reached."""
        return self._each(self._get, self._checked(keys))

    def multiget_data(self, keys: Iterable[str]) -> Iterator[BinaryIO]:
        """Yield ``get_data(key)`` for each key, in order."""
        return self._each(lambda key: self._open(key, None, None), self._checked(keys))

    def multiget_metadata(
        self, keys: Iterable[str], select: Iterable[str] | None = None
    ) -> Iterator[JsonObject]:
        """Yield ``get_metadata(key, select)`` for each key, in order."""
        names = check_select(select)
        return self._each(
            lambda key: copy_json(trim(self._metadata(key), names)), self._checked(keys)
        )

    def query(
        self,
        /,
        select: Iterable[str] | None = None,
        *,
        where: JsonObject | None = None,
        prefix: str = "",
        glob: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **match: Json,
    ) -> Matches[tuple[str, JsonObject]]:
        """Return an iterable of ``(key, metadata)`` for the keys that match; all if none is asked.

        Args:
            select: only these fields in the metadata returned.
            where: a filter document, see :func:`kvstore.where.parse_where`. Fields named as one
                of these arguments can be asked for here.
            prefix: what the keys begin with.
            glob: shell wildcards for the keys; ``*`` crosses ``/``, case counts.
            order_by: a field, ``-field`` for downwards; by key (code points) if None. Keys without
                the field come last; ties by key.
            limit: at most so many.
            after: begin behind this ``cursor`` of an earlier result of the same query; in the
                order of keys that is simply a key.
            match: fields of the metadata and the JSON values that they equal.

        The result is read from the store in pages as it is iterated, its ``cursor`` says where it
        stands. A key changed meanwhile may be told as it was before or after.

        Raises:
            InvalidRequestError: an argument that has no meaning, at once.
        """
        self._ready()
        names = check_select(select)
        query = Query(
            match=match,
            where=where,
            prefix=prefix,
            glob=glob,
            order_by=order_by,
            limit=limit,
            after=after,
        )
        query.predicate()
        return Matches(
            query,
            self._query(query),
            lambda record: (record.key, copy_json(trim(record.metadata, names))),
        )

    def query_keys(
        self,
        /,
        *,
        where: JsonObject | None = None,
        prefix: str = "",
        glob: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **match: Json,
    ) -> Matches[str]:
        """Return an iterable of the keys that :meth:`query` with these arguments finds."""
        self._ready()
        query = Query(
            match=match,
            where=where,
            prefix=prefix,
            glob=glob,
            order_by=order_by,
            limit=limit,
            after=after,
        )
        query.predicate()
        return Matches(query, self._query_keys(query), lambda record: record.key)

    def count(
        self,
        /,
        *,
        where: JsonObject | None = None,
        prefix: str = "",
        glob: str | None = None,
        **match: Json,
    ) -> int:
        """Return how many keys :meth:`query` with these arguments finds."""
        self._ready()
        query = Query(match=match, where=where, prefix=prefix, glob=glob)
        query.predicate()
        return self._count(query)

    def find(self, query: Query) -> Matches[Record]:
        """Return an iterable of the records that a query finds, with all facts: as :meth:`query`.

        For who has the question as a value: ``store.find(Query(prefix="sky/", limit=50))``.
        """
        self._ready()
        query.predicate()
        return Matches(query, self._query(query), copy_record)

    def glob(self, pattern: str) -> Matches[str]:
        """Return an iterable of the keys that match shell wildcards; ``*`` crosses ``/``."""
        if not isinstance(pattern, str):  # None would ask for all keys
            raise InvalidRequestError(f"A glob is a str, not {pattern!r:.100}.")
        return self.query_keys(glob=pattern)

    def mapping(self) -> StoreMapping:
        """Return a ``MutableMapping[str, bytes]`` of keys and data, for code that wants one."""
        return StoreMapping(self)

    # -- what a store implements -----------------------------------------------------------

    @abstractmethod
    def _get(self, key: str) -> Value:
        """Primitive. Return the value; KeyNotFoundError is :func:`kvstore.writes.missing`."""

    @abstractmethod
    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        """Primitive. Yield the records of the keys that begin with *prefix*, in order of key.

        Those up to *after* may be left out. Whoever iterates may change the store between two.
        """

    def _get_if_changed(self, key: str, revision: str) -> Value | None:
        """Shortcut. Return the value, but None if it is (still) that of this *revision*."""
        return None if self._record(key).revision == revision else self._get(key)

    def _record(self, key: str) -> Record:
        """Shortcut. Return the facts about a key."""
        value = self._get(key)
        value.close()
        return value.record

    def _metadata(self, key: str) -> JsonObject:
        """Shortcut. Return the metadata alone."""
        return self._record(key).metadata

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        """Shortcut. Return a stream over a range of the data, over all for None and None."""
        value = self._get(key)
        return value.open() if start is None and end is None else value.range(start, end)

    def _exists(self, key: str) -> bool:
        """Shortcut. Tell whether there is such a key."""
        try:
            self._record(key)
        except KeyNotFoundError:
            return False
        return True

    def _to_file(
        self,
        key: str,
        path: str | PathLike[str],
        buffer_size: int,
        progress: ProgressCallback | None,
    ) -> None:
        """Shortcut. Write the data to a file, and report that."""
        value = self._get(key)
        bar = Progress(self.events, self, key, f"get {key}", value.size, progress)
        with closing(value), bar:
            files.write_atomically(path, Source(value, buffer_size=buffer_size), report=bar.step)

    def _query(self, query: Query) -> Iterator[Record]:
        """Shortcut. Yield what *query* finds, in its order, as :func:`kvstore.query.run` does."""
        after = query.after if query.order_by is None else None
        return run(query, self._records(query.key_prefix(), after))

    def _query_keys(self, query: Query) -> Iterator[Record]:
        """Shortcut. As ``_query``, where of a record only key and the field of order are needed."""
        return self._query(query)

    def _count(self, query: Query) -> int:
        """Shortcut. Return how many records ``_query`` yields."""
        return sum(1 for _ in self._query(query))

    def _everything(self) -> Iterator[Record]:
        return self._query(Query())

    def _each(self, call: Callable[[str], _T], keys: Iterable[str]) -> Iterator[_T]:
        """Shortcut. Yield ``call(key)`` for each key, in order, and errors in their place."""
        return map(call, keys)

    def _checked(self, keys: Iterable[str]) -> Iterator[str]:
        if isinstance(keys, (str, bytes)):
            raise InvalidRequestError(f"keys is an iterable of keys, not one: {keys!a:.100}.")
        return map(self._check, keys)
