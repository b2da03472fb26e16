"""Commands for what a store remembers: ``log`` and ``versions``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.arguments import Place, on_store
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column, iso_time, record_columns, show_time
from kvstore.documents import JsonObject
from kvstore.errors import ChangesLostError, KeyNotFoundError
from kvstore.history import JournalEntry
from kvstore.values import Record
from kvstore.writes import missing

_LOG = [
    Column("seq", right=True),
    Column("time", show_time, iso_time),
    Column("action"),
    Column("key"),
    Column("revision"),
]


@click.command()
@on_store("")
@click.option(
    "--since", type=click.IntRange(0), metavar="N", help="The changes after the one of this number."
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    help="At most so many: the newest, or with --since the first after it.",
)
@output_options
@with_output
def log(output: Output, /, place: Place, since: int | None, limit: int | None) -> None:
    """List the changes of a store, in their order.

    A store remembers a number of them. With --since it is an error if some after N are forgotten;
    without, the list begins with the oldest that is left. --json has the metadata, too.
    """
    with place.open_existing() as store:
        entries = store.changes(since, limit) if since is not None else _newest(store, limit)
        if output.as_json:
            output.documents(map(asdict, entries))
        else:
            names = [column.name for column in _LOG]
            output.table(_LOG, ([getattr(entry, name) for name in names] for entry in entries))


@click.command()
@on_store("KEY")
@click.option("--restore", "revision", metavar="REVISION", help="Set KEY back to this version.")
@output_options
@with_output
def versions(output: Output, /, place: Place, revision: str | None) -> None:
    """List the versions of KEY, the newest first, or restore one.

    A store keeps as many as it is told to, see `kvstore serve --help`. To restore one makes a new
    version of the same data, metadata and media type; a key that was deleted is there again.
    """
    (key,) = place.words
    if revision is not None:
        new = _restore(place, key, revision)
        row = {"key": key, "revision": new}
        output.result(f"{key}: restored from {revision}, revision {new}", row)
        return
    with place.open_existing() as store:
        found = store.versions(key)
        if not found:
            raise missing(key)
        now = _revision(store, key)
    rows = [_facts(record, is_current=record.revision == now) for record in found]
    if output.as_json:
        output.documents(rows)
        return
    known = {column.name: column for column in record_columns()}
    shown = ("revision", "modified", "size", "mimetype")
    columns = [*(known[name] for name in shown), Column("current", _mark, _mark)]
    output.table(columns, ([row[column.name] for column in columns] for row in rows))


def _newest(store: AuthorizingStore, limit: int | None) -> Iterator[JournalEntry]:
    since = 0 if limit is None else max(store.sequence() - limit, 0)
    try:
        return store.changes(since, limit)
    except ChangesLostError as error:
        if error.oldest is None:
            raise
        return store.changes(error.oldest - 1, limit)


def _restore(place: Place, key: str, revision: str) -> str | None:
    with place.open_existing() as store:
        return store.restore(key, revision)


def _revision(store: AuthorizingStore, key: str) -> str | None:
    try:
        with closing(store.get(key)) as value:
            return value.revision
    except KeyNotFoundError:  # it was deleted
        return None


def _facts(record: Record, *, is_current: bool) -> JsonObject:
    facts = asdict(record)
    del facts["key"], facts["permissions"]
    return {**facts, "current": is_current}


def _mark(is_current: bool) -> str:
    return "current" if is_current else ""
