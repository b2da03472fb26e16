"""Records of a store, with as much about them as it takes to tell that they were changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from kvstore.errors import KeyNotFoundError, StoreError
from kvstore.hashing import ParallelHash
from kvstore.parallel import Crew, in_order
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.values import Record, Value

#: A record, or why it cannot be had: an error that names the key.
Found: TypeAlias = Record | StoreError

#: Records to a page, where they come from a server.
_PAGE = 1000


def records_of(store: ReadOnlyStore, query: Query, crew: Crew) -> Iterator[Found]:
    """Yield what *query* finds, in the order of keys.

    Where a listing does not tell enough, what is missing is looked up by *crew*.
    """
    records = _listed(store, query)
    if store.info()["digests"]:
        return records
    found = in_order(crew, partial(_completed, store), records)
    return (record for record in found if record is not None)


def look(store: ReadOnlyStore, key: str) -> Found | None:
    """Return the record under *key*, None if there is none."""
    try:
        return _enough(store, store.record(key))
    except KeyNotFoundError:
        return None
    except StoreError as error:
        error.key = key
        return error


def known_of(store: ReadOnlyStore, key: str) -> Record:
    """Return the record under *key*.

    Raises:
        KeyNotFoundError: there is none.
    """
    return _enough(store, store.record(key))


def digest_of(value: Value) -> str:
    """Return the digest of its data, which are read where nobody recorded it."""
    if value.digest is not None:
        return value.digest
    with ParallelHash() as digest:
        for piece in value.iterdata():
            digest.update(piece)
        return f"sha256:{digest.digest().hex()}"


def _listed(store: ReadOnlyStore, query: Query) -> Iterator[Record]:
    """Yield the records as the store lists them.

    Those of a server in pages: what is done between two records may take long, and an answer that
    stands still meanwhile would be cut off.
    """
    if "records" not in store.info().get("capabilities", ()):
        yield from store.find(query)
        return
    while True:
        number = 0
        for record in store.find(replace(query, limit=_PAGE)):
            number += 1
            query = replace(query, after=record.key)
            yield record
        if number < _PAGE:
            return


def _completed(store: ReadOnlyStore, record: Record) -> Found | None:
    if record.size < 0:
        return look(store, record.key)
    try:
        return _enough(store, record)
    except KeyNotFoundError:
        return None  # deleted since it was listed
    except StoreError as error:
        error.key = record.key
        return error


def _enough(store: ReadOnlyStore, record: Record) -> Record:
    """Return *record* with something that changes with its data: where there is nothing, a hash."""
    if (record.revision, record.digest, record.modified) != (None, None, None):
        return record
    with closing(store.get(record.key)) as value:
        return replace(value.record, digest=digest_of(value))
