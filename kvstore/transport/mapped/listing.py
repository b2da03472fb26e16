"""The keys that a server lists, in their order; the rest of a query is answered here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from kvstore.errors import KeyNotFoundError, TransportError
from kvstore.profiles.facts import record_of
from kvstore.query import Query, run
from kvstore.transport.mapped.pages import entries, listing_of
from kvstore.transport.mapped.replies import checked_metadata
from kvstore.transport.mapped.talk import Talk
from kvstore.values import Record

#: Folders within folders.
_LEVELS = 512


def find(
    talk: Talk,
    query: Query,
    read: Callable[[str], Record],
    *,
    with_metadata: bool,
) -> Iterator[Record]:
    """Yield what *query* finds.

    Args:
        read: returns the record of a key that is listed without its metadata.
        with_metadata: whether the caller needs the metadata.
    """
    talk.operation("list")
    needed = with_metadata or bool(query.match) or query.where is not None
    needed = needed or query.order_by is not None
    rules = talk.profile.metadata

    def records() -> Iterator[Record]:
        with closing(_in_order(talk, query)) as found:
            for told in found:
                if not needed or rules.carrier in ("none", "listing") or "metadata" in told:
                    metadata = checked_metadata(told.get("metadata", {}), told["key"])
                    yield record_of(told["key"], told, metadata)
                    continue
                try:
                    yield read(told["key"])
                except KeyNotFoundError:
                    continue  # deleted since the server listed it

    return run(query, records())


def list_entries(talk: Talk, query: Query) -> Generator[dict[str, Any], None, None]:
    """Yield the facts of each key that the server lists for *query*, in the server's order."""
    listing = listing_of(talk)
    prefix = query.key_prefix()
    if listing.prefix == "folder":
        prefix = prefix[: prefix.rfind("/") + 1]
    if listing.descend:
        yield from _descended(talk, query, prefix, 0)
        return
    for told, is_folder in entries(talk, query, prefix):
        if not is_folder:
            yield told


def _in_order(talk: Talk, query: Query) -> Generator[dict[str, Any], None, None]:
    listing = listing_of(talk)
    if not (listing.is_sorted or listing.descend):
        found = {told["key"]: told for told in _wanted(talk, query)}
        for key in sorted(found):
            yield found.pop(key)
        return
    last = ""
    with closing(_wanted(talk, query)) as listed:
        for told in listed:
            if told["key"] <= last:
                message = f"The server listed {told['key']!a:.100} after {last!a:.100}"
                raise TransportError(f"{message}, although its lists are in the order of keys.")
            last = told["key"]
            yield told


def _wanted(talk: Talk, query: Query) -> Generator[dict[str, Any], None, None]:
    prefix = query.key_prefix()
    after = query.after if query.order_by is None else None
    with closing(list_entries(talk, query)) as listed:
        for told in listed:
            key = told["key"]
            if key.startswith(prefix) and (after is None or key > after):
                yield told


def _descended(
    talk: Talk, query: Query, folder: str, level: int
) -> Generator[dict[str, Any], None, None]:
    """List a folder and those in it, in the order of keys; one folder at a time is in memory."""
    if level > _LEVELS:
        raise TransportError(f"The server lists folders over {_LEVELS} levels deep.")
    prefix, after = query.key_prefix(), query.after if query.order_by is None else None
    found: dict[str, dict[str, Any] | None] = {}
    for told, is_folder in entries(talk, query, folder):
        key = told["key"]
        if is_folder:
            name = key.rstrip("/")
            key = f"{name}/" if name else ""
        if key == folder or not key.startswith(folder):
            continue  # of itself
        found[key] = None if is_folder else told
    for key in sorted(found):
        told_of = found.pop(key)
        if told_of is not None:
            yield told_of
        elif _may_hold(key, prefix) and not (after is not None and _is_before(key, after)):
            yield from _descended(talk, query, key, level + 1)


def _may_hold(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _is_before(folder: str, after: str) -> bool:
    """Tell whether all that is in a folder comes before *after*."""
    return folder < after and not after.startswith(folder)
