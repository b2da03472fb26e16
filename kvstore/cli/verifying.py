"""The command that reads everything again: ``verify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.arguments import Place, on_store
from kvstore.cli.failures import FAILED
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.cli.spelling import Column, show_size
from kvstore.cli.summaries import counted
from kvstore.documents import JsonObject
from kvstore.errors import IntegrityError, KeyNotFoundError, StorageError
from kvstore.stores.sqlite import SQLiteStore


@dataclass(slots=True)
class _Report:
    """What was read, and what was found."""

    keys: int
    #: Earlier versions; None where they were not looked at.
    versions: int | None
    size: int
    #: Kind, key (None where it is about none) and sentence of each.
    problems: list[JsonObject]


@click.command()
@on_store("")
@click.option("--repair", is_flag=True, help="Remove what belongs to no key (sqlite: stores).")
@output_options
@with_output
def verify(output: Output, /, place: Place, repair: bool) -> int:
    """Read all data again, and tell what is not as it was stored.

    Of a sqlite: store the index, the journal and earlier versions are looked at, too. With --repair
    what belongs to no key is removed first, and so are indexes of fields that are wrong; keys are
    left as they are. The exit code is 1 if there are problems.
    """
    done: list[str] = []
    with place.open_existing() as store:
        if isinstance(store, SQLiteStore):
            if repair:
                done = store.repair()
            report = _verified(store)
        elif repair:
            raise click.UsageError("--repair is for sqlite: stores")
        else:
            report = _read_through(store)
    _print(output, done, report)
    return FAILED if report.problems else 0


def _verified(store: SQLiteStore) -> _Report:
    with Transfers(_count(store)) as transfers:
        found = store.verify(lambda done, total: transfers.advance())
    problems = [_problem(each.kind, each.key, each.message) for each in found.problems]
    return _Report(found.keys, found.versions, found.size, problems)


def _read_through(store: AuthorizingStore) -> _Report:
    report = _Report(0, None, 0, [])
    with Transfers(_count(store)) as transfers:
        for key in _keys(store, report):
            report.keys += 1
            try:
                with closing(store.get(key)) as value:
                    for piece in value.iterdata(progress=transfers.of(f"verify {key}")):
                        report.size += len(piece)
            except KeyNotFoundError as error:
                if _is_listed(store, key):  # else it was deleted meanwhile
                    report.problems.append(_problem("missing", key, error.message))
            except IntegrityError as error:
                report.problems.append(_problem("torn", key, error.message))
            except StorageError as error:
                report.problems.append(_problem("unreadable", key, error.message))
            transfers.advance()
    return report


def _keys(store: AuthorizingStore, report: _Report) -> Iterator[str]:
    try:
        yield from store.query_keys()
    except StorageError as error:
        report.problems.append(_problem("unreadable", None, error.message))


def _is_listed(store: AuthorizingStore, key: str) -> bool:
    return next(store.query_keys(prefix=key, limit=1), None) == key


def _count(store: AuthorizingStore) -> int | None:
    # Counting may take as long as listing: only where somebody is there to see it.
    return store.count() if sys.stderr.isatty() else None


def _problem(kind: str, key: str | None, message: str) -> JsonObject:
    return {"kind": kind, "key": key, "message": message}


def _print(output: Output, done: list[str], report: _Report) -> None:
    if output.as_json:
        output.document({**asdict(report), "repaired": done})
        return
    if output.for_people:
        # Not as a table, which would cut the sentences off.
        for sentence in [*done, *map(_shown, report.problems), _sentence(report)]:
            output.line(output.shown(sentence))
        return
    # The first word of each line says what the others are.
    facts = {name: value for name, value in asdict(report).items() if name != "problems"}
    output.document(facts)
    columns = [Column("kind"), Column("key"), Column("message")]
    output.table(columns, (["repaired", None, sentence] for sentence in done))
    output.table(columns, (list(problem.values()) for problem in report.problems))


def _shown(problem: JsonObject) -> str:
    kind, key, message = problem.values()
    is_named = key is None or ascii(key) in message
    return f"{kind}: {message}" if is_named else f"{kind}: {key}: {message}"


def _sentence(report: _Report) -> str:
    parts = [counted(report.keys, "key")]
    if report.versions is not None:
        parts.append(counted(report.versions, "earlier version"))
    found = counted(len(report.problems), "problem") if report.problems else "no problems"
    return f"{', '.join(parts)}, {show_size(report.size)} read: {found}"
