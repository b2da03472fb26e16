"""Commands for what a store remembers: ``log`` and ``versions``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.arguments import Place, on_store
from kvstore.cli.failures import INTERRUPTED
from kvstore.cli.following import follow as follow_changes
from kvstore.cli.following import while_read
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column, iso_time, record_columns, show_time
from kvstore.documents import JsonObject
from kvstore.errors import ChangesLostError, KeyNotFoundError
from kvstore.history import JournalEntry
from kvstore.values import Record
from kvstore.values import permissions_document as _listed
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
@click.option("--follow", "-f", is_flag=True, help="Go on with what changes, until Ctrl-C.")
@output_options
@with_output
def log(
    output: Output, /, place: Place, since: int | None, limit: int | None, follow: bool
) -> None:
    """List the changes of a store, in their order.

    A store remembers a number of them. With --since it is an error if some after N are forgotten;
    without, the list begins with the oldest that is left. --json has the metadata, too.

    With --follow those that come are listed as they are made, by whomever. A connection that
    breaks is made anew, and nothing is left out or told twice.
    """
    if follow and since is not None and limit is not None:
        raise click.UsageError("--limit ends what --since begins, so that nothing can --follow")
    with place.open_existing() as store:
        if follow:
            _follow(output, store, since, limit)
            return
        entries = store.changes(since, limit) if since is not None else _newest(store, limit)
        if output.as_json:
            output.documents(map(_document, entries))
        else:
            output.table(_LOG, map(_row, entries))


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
    return store.changes(_begin(store, limit), limit)


def _begin(store: AuthorizingStore, limit: int | None) -> int:
    """Return behind which change the newest *limit* begin, as far as they are there."""
    since = 0 if limit is None else max(store.sequence() - limit, 0)
    try:
        store.changes(since, 0)
    except ChangesLostError as error:
        if error.oldest is None:
            raise
        return error.oldest - 1
    return since


def _follow(output: Output, store: AuthorizingStore, since: int | None, limit: int | None) -> None:
    if since is None:
        since = _begin(store, limit)
    else:
        store.changes(since, 0)  # raises if some after it are forgotten
    try:
        with while_read() as halt:
            for entry in follow_changes(store, since, halt):
                _tell(output, entry)
                sys.stdout.flush()
    except KeyboardInterrupt:  # as it is meant to end
        click.get_current_context().exit(INTERRUPTED)


def _tell(output: Output, entry: JournalEntry) -> None:
    """Print one change. Not as a table: nobody knows how wide the next one will be."""
    if output.as_json:
        output.documents([_document(entry)])
    elif output.for_people:
        when = f"{datetime.fromtimestamp(entry.time).astimezone():%Y-%m-%d %H:%M:%S}"
        output.line(f"{entry.seq:>6}  {when}  {entry.action:<6}  {output.shown(entry.key)}")
    else:
        output.table(_LOG, [_row(entry)])


def _row(entry: JournalEntry) -> list[Any]:
    return [getattr(entry, column.name) for column in _LOG]


def _document(entry: JournalEntry) -> JsonObject:
    facts = asdict(entry)
    permissions = facts.pop("permissions")
    return facts if permissions is None else {**facts, "permissions": _listed(permissions)}


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
