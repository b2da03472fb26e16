"""Commands that read: ``ls``, ``get``, ``query`` and ``info``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import click

from kvstore.cli.arguments import (
    Place,
    on_store,
    parse_document,
    parse_pairs,
    parse_range,
    question,
)
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.cli.spelling import Column, plain, record_columns, show_size
from kvstore.documents import JsonObject
from kvstore.files import write_all, write_atomically
from kvstore.query import Query
from kvstore.streams import Source
from kvstore.values import BUFFER_SIZE, Record

# What is in no text: the control characters but tab, line feed, form feed, carriage return.
_NO_TEXT = bytes({*range(32), 127} - {9, 10, 12, 13})

_LIMIT = click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many.")
_NULL = click.option(
    "-0", "--null", is_flag=True, help="Print keys alone, as they are, each ended by a NUL byte."
)


@click.command()
@on_store("[PREFIX]")
@click.option("-l", "--long", is_flag=True, help="Size, time, type and revision, too.")
@_LIMIT
@_NULL
@output_options
@with_output
def ls(output: Output, /, place: Place, long: bool, limit: int | None, null: bool) -> None:
    """List the keys, in order, or those that begin with PREFIX."""
    prefix = place.words[0] if place.words else ""
    with place.open_existing() as store:
        if null:
            _write_keys(store.query_keys(prefix=prefix, limit=limit))
        elif long:
            records = store.find(Query(prefix=prefix, limit=limit))
            _print_records(output, map(_facts, records))
        else:
            keys = store.query_keys(prefix=prefix, limit=limit)
            if output.as_json:
                output.documents({"key": key} for key in keys)
            else:
                for key in keys:
                    output.line(output.shown(key))


@click.command()
@on_store("KEY")
@click.option(
    "-o", "--output", "target", metavar="FILE", help="Save it there; - is the standard output."
)
@click.option(
    "--range",
    "bounds",
    metavar="START:END",
    callback=parse_range,
    help="Only these bytes, from 0, END left out.",
)
@click.option(
    "--version", metavar="REVISION", help="As it was at this revision; see `kvstore versions`."
)
@output_options
@with_output
def get(
    output: Output,
    /,
    place: Place,
    target: str | None,
    bounds: tuple[int | None, int | None] | None,
    version: str | None,
) -> None:
    """Print the data of KEY, or save it to a file.

    The file appears whole or not at all.
    """
    (key,) = place.words
    to_stdout = target is None or target == "-"
    if to_stdout and output.as_json:
        raise click.UsageError("With --json the data goes to a file: add -o FILE")
    with place.open_existing() as store:
        if bounds is not None and version is None:
            stream, size = store.get_data_range(key, *bounds), -1
        else:
            value = store.get(key, version=version)
            stream, size = value.data, value.size
            if bounds is not None:
                stream, size = value.range(*bounds), -1
        with closing(stream):
            if to_stdout:
                _print_data(key, stream, size, checked=target is None)
                return
            path = Path(target or "")
            size = _save(key, stream, size, path)
    said = f"{key}: {show_size(size)} saved to {path}"
    output.result(said, {"key": key, "size": size, "file": str(path)})


@click.command()
@on_store("[NAME=VALUE]...")
@click.option("--where", metavar="JSON", help='A filter: \'{"exposure": {"ge": 2}}\', or @FILE.')
@click.option("--prefix", default="", help="What the keys begin with.")
@click.option("--glob", metavar="PATTERN", help="Shell wildcards for the keys; * crosses /.")
@click.option("--order", metavar="FIELD", help="Order by this field; -FIELD for downwards.")
@_LIMIT
@click.option("--select", metavar="A,B", help="Show only these fields.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@_NULL
@output_options
@with_output
def query(output: Output, /, place: Place, **asked: Any) -> None:
    """Find keys by their metadata.

    All fields that are given must be equal, and the filter must hold. A VALUE is JSON where it is
    JSON, else text: exposure=30, title=M31, title='"30"'.
    """
    fields = parse_pairs(place.words)
    where = None if asked["where"] is None else parse_document(asked["where"], "--where")
    which = {**question(fields, where), "prefix": asked["prefix"], "glob": asked["glob"]}
    order = {"order_by": asked["order"], "limit": asked["limit"]}
    select = None if asked["select"] is None else asked["select"].split(",")
    with place.open_existing() as store:
        if asked["count"]:
            if asked["null"] or any(value is not None for value in order.values()):
                raise click.UsageError("--count goes with none of --order, --limit and --null")
            _print_count(output, store.count(**which))
        elif asked["null"]:
            _write_keys(store.query_keys(**which, **order))
        else:
            _print_found(output, store.query(select, **which, **order), select)


@click.command()
@on_store("[KEY]")
@output_options
@with_output
def info(output: Output, /, place: Place) -> None:
    """Tell what the store is and can do, or the facts about KEY."""
    with place.open_existing() as store:
        if not place.words:
            output.document(store.info())
            return
        with closing(store.get(place.words[0])) as value:
            output.document(_facts(value.record), record_columns())


def _facts(record: Record) -> JsonObject:
    facts = asdict(record)
    del facts["metadata"], facts["permissions"]
    if record.size < 0:  # a server that tells nothing but keys
        facts["size"] = None
    return facts


def _print_records(output: Output, records: Iterable[JsonObject]) -> None:
    if output.as_json:
        output.documents(records)
        return
    shown = ("key", "size", "modified", "mimetype", "revision")
    columns = [column for column in record_columns() if column.name in shown]
    output.table(columns, ([facts[name] for name in shown] for facts in records))


def _write_keys(keys: Iterable[str]) -> None:
    for key in keys:
        sys.stdout.buffer.write(key.encode() + b"\0")
    sys.stdout.buffer.flush()


def _print_count(output: Output, count: int) -> None:
    if output.as_json:
        output.document({"count": count})
    else:
        output.line(str(count))


def _print_found(
    output: Output, found: Iterable[tuple[str, JsonObject]], select: list[str] | None
) -> None:
    if output.as_json:
        output.documents({"key": key, "metadata": metadata} for key, metadata in found)
    elif select is None:
        output.table([Column("key"), Column("metadata", _show_fields)], found)
    else:
        columns = [Column("key"), *(Column(name) for name in select)]
        rows = ([key, *(metadata.get(name) for name in select)] for key, metadata in found)
        output.table(columns, rows)


def _show_fields(metadata: JsonObject) -> str:
    return ", ".join(f"{name}={plain(value)}" for name, value in metadata.items())


def _print_data(key: str, stream: BinaryIO, size: int, *, checked: bool) -> None:
    in_terminal = sys.stdout.isatty()
    with Transfers() as transfers:
        progress = transfers.of(f"get {key}")
        done = 0
        while piece := stream.read(BUFFER_SIZE):
            if in_terminal and checked and _is_binary(piece):
                message = f"The data of {key!a:.100} is no text: save it with -o FILE, or add -o -."
                raise click.ClickException(message)
            sys.stdout.buffer.write(piece)
            done += len(piece)
            if not in_terminal:  # the bar would be drawn between the lines
                progress(done, size)
    sys.stdout.buffer.flush()


def _is_binary(piece: bytes) -> bool:
    return piece != piece.translate(None, _NO_TEXT)


def _save(key: str, stream: BinaryIO, size: int, path: Path) -> int:
    saved = 0
    with Transfers() as transfers:
        progress = transfers.of(f"get {key}")

        def report(done: int) -> None:
            nonlocal saved
            saved = done
            progress(done, size)

        pieces = Source(stream)
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb", buffering=0) as target:  # /dev/null and pipes are not replaced
                for piece in pieces:
                    saved += len(piece)
                    write_all(target.fileno(), piece)
        else:
            write_atomically(os.path.realpath(path), pieces, report=report)
    return saved
