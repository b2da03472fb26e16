"""Copies keys from one store to another, and the command that does only that: ``cp``."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.arguments import Place, store_url
from kvstore.cli.failures import sentence_of
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.cli.summaries import tallied
from kvstore.documents import JsonObject
from kvstore.errors import (
    AuthorizationError,
    ConflictError,
    IntegrityError,
    KeyNotFoundError,
    StoreError,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.parallel import Crew, in_order
from kvstore.query import Query
from kvstore.store import ReadOnlyStore
from kvstore.values import Permissions, ProgressCallback, Value
from kvstore.where import json_equal

#: Bytes that one transaction takes at most, as it keeps others from writing.
_BATCH_BYTES = 64 << 20
#: Keys whose sizes are asked for before they are copied, to tell how far it is.
_MEASURED = 10_000
#: Keys that are copied at a time, where one takes longer than a few milliseconds.
_WORKERS = 8

_Error = TypeVar("_Error", bound=Exception)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--prefix", help="Copy the keys that begin with this.")
@click.option("--glob", metavar="PATTERN", help="Copy the keys that match these shell wildcards.")
@click.option("--skip-existing", is_flag=True, help="Leave keys alone that TARGET has.")
@output_options
@with_output
def cp(output: Output, /, source: str, target: str, keys: tuple[str, ...], **asked: Any) -> None:
    """Copy keys from the store SOURCE to the store TARGET.

    All of them, if none is given. Data, metadata and media type are copied, each key as one, and
    data streams from one to the other. Permissions are not: the new keys belong to you.
    """
    which = {name: asked[name] for name in ("prefix", "glob") if asked[name] is not None}
    if keys and which:
        raise click.UsageError("Give KEYs, or --prefix and --glob, not both")
    read = Place(store_url(source), ())
    write = Place(store_url(target), ())
    rules = Rules(existing="skip" if asked["skip_existing"] else "replace")
    with read.open_existing() as old, write.open() as new:
        count, size = (len(keys), None) if keys else extent_of(old, **which)
        with Transfers(count, None if rules.existing == "skip" else size) as transfers:
            job = Copy(old, new, transfers, rules)
            outcomes = job.named(keys) if keys else job.found(old.query_keys(**which))
            tally = tallied(output, outcomes)
    if output.for_people:
        output.line(tally.sentence("copied"))


def extent_of(store: ReadOnlyStore, **which: Any) -> tuple[int | None, int | None]:
    """Return how many keys a query finds, and how many bytes they have, for who waits for them.

    Counting may take as long as listing: None where nobody is there to see it. The bytes are None
    where there are too many keys to list them for that alone, or where the store does not tell.
    """
    if not sys.stderr.isatty():
        return None, None
    count = store.count(**which)
    if count > _MEASURED:
        return count, None
    sizes = [record.size for record in store.find(Query(**which))]
    return count, sum(sizes) if min(sizes, default=0) >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How keys are copied."""

    #: What is done to keys that are there: all are replaced, or those that differ, or none.
    existing: Literal["replace", "update", "skip"] = "replace"
    #: What the new keys begin with, before the old ones.
    prefix: str = ""
    #: Whether permissions are copied; else the new keys belong to whoever copies.
    permissions: bool = False
    #: How many keys make a transaction.
    batch: int = 1
    #: Whether one that cannot be copied ends it all, or is told at the end.
    failure: Literal["raise", "tell"] = "raise"
    #: What has become of a key that was copied.
    done: str = "copied"


class Copy:
    """Copies keys from one store to another, and tells what became of each."""

    def __init__(
        self, old: ReadOnlyStore, new: AuthorizingStore, transfers: Transfers, rules: Rules
    ) -> None:
        self._old = old
        self._new = new
        self._transfers = transfers
        self._rules = rules
        self._done = 0
        #: A sentence for each key that could not be copied.
        self.failures: list[str] = []

    def named(self, keys: Iterable[str]) -> Iterator[JsonObject]:
        """Copy these keys, all of which must be there."""
        return self._all(keys, self._read)

    def found(self, keys: Iterable[str]) -> Iterator[JsonObject]:
        """Copy the keys that a query finds, but for those deleted since it found them."""

        def read(key: str) -> Value | JsonObject | None:
            try:
                return self._read(key)
            except KeyNotFoundError:
                return None

        return self._all(keys, read)

    def _all(
        self, keys: Iterable[str], read: Callable[[str], Value | JsonObject | None]
    ) -> Iterator[JsonObject]:
        if self._rules.batch > 1:
            items = (item for item in map(read, keys) if item is not None)
            return self._in_transactions(items)
        return self._several_at_a_time(keys, read)

    def _several_at_a_time(
        self, keys: Iterable[str], read: Callable[[str], Value | JsonObject | None]
    ) -> Iterator[JsonObject]:
        def copy(key: str) -> JsonObject | None:
            item = read(key)
            if not isinstance(item, Value):
                return item
            with closing(item):
                return self._write(item)

        crew = Crew(_WORKERS)
        try:
            for outcome in in_order(crew, copy, keys):
                if outcome is not None:
                    self._transfers.advance()
                    self._done += 1
                    yield outcome
        finally:
            crew.close()

    def _in_transactions(self, items: Iterable[Value | JsonObject]) -> Iterator[JsonObject]:
        for batch in _batches(items, self._rules.batch):
            values = [item for item in batch if isinstance(item, Value)]
            # One write is atomic by itself, and keeps nobody out while its data is read.
            together = self._new.transaction() if len(values) > 1 else contextlib.nullcontext()
            outcomes = []
            try:
                with together:
                    for item in batch:
                        outcomes.append(self._write(item) if isinstance(item, Value) else item)
                        self._transfers.advance()
            finally:
                for value in values:
                    value.close()
            self._done += len(outcomes)
            yield from outcomes

    def _read(self, key: str) -> Value | JsonObject:
        """Return the value to be copied, or what became of the key if there is none."""
        target = self._rules.prefix + key
        try:
            if self._rules.existing == "skip" and self._new.exists(target):
                return self._outcome(target, "skipped")
            value = self._old.get(key)
            if self._rules.existing == "update":
                progress = self._transfers.of(f"compare {key}")
                if self._is_there(value, target, progress):
                    progress(value.size, value.size)
                    value.close()
                    return self._outcome(target, "skipped")
                progress(0, value.size)  # it is read again
        except KeyNotFoundError as error:
            raise self._noted(error, key) from None
        except (StoreError, OSError) as error:
            return self._failed(error, key, is_of_key=not isinstance(error, TransportError))
        return value

    def _write(self, value: Value) -> JsonObject:
        target = self._rules.prefix + value.key
        create: Literal["*"] | None = "*" if self._rules.existing == "skip" else None
        progress = self._transfers.of(f"copy {value.key}")
        try:
            revision = self._new.set(target, value, if_none_match=create, progress=progress)
            revision = self._permit(value, target) or revision
        except (StoreError, OSError) as error:
            if create and isinstance(error, ConflictError):
                return self._outcome(target, "skipped")  # somebody else made it just now
            return self._failed(error, value.key, is_of_key=_is_of_key(error))
        return {**self._outcome(target, self._rules.done), "size": value.size, "revision": revision}

    def _permit(self, value: Value, target: str) -> str | None:
        wanted = _permissions_of(value) if self._rules.permissions else None
        if wanted is None or wanted == self._new.get_permissions(target):
            return None
        return self._new.set_permissions(target, wanted)

    def _is_there(self, value: Value, target: str, progress: ProgressCallback) -> bool:
        """Tell whether the key *target* is what copying *value* would make it."""
        try:
            there = self._new.get(target)
        except KeyNotFoundError:
            return False
        with closing(there):
            if (value.size, value.mimetype) != (there.size, there.mimetype):
                return False
            if not json_equal(value.metadata, there.metadata):
                return False
            wanted = _permissions_of(value) if self._rules.permissions else None
            if wanted is not None and wanted != _permissions_of(there):
                return False
            if there.digest is None:
                return False
            return there.digest == (value.digest or _digest_of(value, progress))

    def _failed(self, error: StoreError | OSError, key: str, *, is_of_key: bool) -> JsonObject:
        if self._rules.failure == "raise" or not is_of_key:
            raise self._noted(error, key)
        self.failures.append(f"{key!a:.300}: {sentence_of(error)}")
        return self._outcome(self._rules.prefix + key, "failed")

    def _noted(self, error: _Error, key: str) -> _Error:
        if self._done:
            error.add_note(f"That was {key!a:.100}; copied before it: {self._done}.")
        return error

    def _outcome(self, target: str, status: str) -> JsonObject:
        return {"key": target, "status": status, "size": None, "revision": None}


def _batches(items: Iterable[Value | JsonObject], most: int) -> Iterator[list[Value | JsonObject]]:
    batch: list[Value | JsonObject] = []
    size = 0
    for item in items:
        more = max(item.size, 0) if isinstance(item, Value) else 0
        if batch and size + more > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += more
        if len(batch) == most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_of_key(error: StoreError | OSError) -> bool:
    """Tell whether a write failed for what was written; else the next one would fail, too."""
    if isinstance(error, StoreError):
        return isinstance(error, (ValueError, IntegrityError, ConflictError))
    return True  # it could not be read


def _permissions_of(value: Value) -> Permissions | None:
    """Return the permissions of *value*, None where they are not told."""
    try:
        return value.permissions
    except (AuthorizationError, UnsupportedOperationError):
        return None


def _digest_of(value: Value, progress: ProgressCallback) -> str:
    digest = hashlib.sha256()
    for piece in value.iterdata(progress=progress):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
