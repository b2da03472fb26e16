"""Looks whether a store is what it should be: every byte, every row, every file; and tidies up."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from kvstore.stores._sqlite.engine import Engine
from kvstore.stores._sqlite.rows import parsed
from kvstore.stores._sqlite.terms import SLOTS, terms_of
from kvstore.stores._sqlite.writer import Step

Kind: TypeAlias = Literal["missing", "torn", "orphan", "index", "journal"]

_PAGE = 500
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that should not be."""

    #: ``missing``: data that are not there. ``torn``: data that are not those that were stored.
    #: ``orphan``: data that belong to no key. ``index``, ``journal``: rows that contradict others.
    kind: Kind
    #: A sentence.
    message: str
    #: The key that is concerned, if it is one.
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, and what was found."""

    keys: int
    #: Earlier versions.
    versions: int
    #: Bytes of data, read again.
    size: int
    problems: tuple[Problem, ...]


class Verifier:
    """Verifies one store, which others may go on using."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._problems: list[Problem] = []
        self._size = 0

    def verify(self, progress: Callable[[int, int], object] | None) -> Verification:
        """Look at everything. *progress* is called with the keys done and their number."""
        with self._engine.reading() as connection:
            (total,) = connection.execute("SELECT count(*) FROM entry").fetchone()
            for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
                if line != "ok":
                    self._found("index", f"SQLite says: {line}")
        keys = versions = 0
        for key, seq in self._pairs("SELECT key, seq FROM entry"):
            self._check_row(key, seq)
            keys += 1
            if progress is not None:
                progress(keys, max(total, keys))
        for key, seq in self._pairs("SELECT key, seq FROM version"):
            self._check_row(key, seq)
            versions += 1
        self._check_terms()
        self._check_journal()
        self._problems += [problem for problem, _ in orphans(self._engine)]
        return Verification(keys, versions, self._size, tuple(self._problems))

    def _pairs(self, select: str) -> Iterator[tuple[str, int]]:
        place: tuple[str, int] = ("", 0)
        while True:
            with self._engine.reading() as connection:
                page = connection.execute(
                    f"{select} WHERE (key, seq) > (?, ?) ORDER BY key, seq LIMIT {_PAGE}", place
                ).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            place = page[-1]

    def _found(self, kind: Kind, message: str, key: str | None = None) -> None:
        self._problems.append(Problem(kind, message, key))

    # -- rows and data ---------------------------------------------------------------------

    def _check_row(self, key: str, seq: int) -> None:
        row = self._row(seq)
        while (problem := self._problem_of(key, row)) is not None:
            # Whoever changes the key meanwhile takes away what we look for.
            now = self._row(seq)
            if now == row:
                if self._is_current(key, seq):
                    self._problems.append(problem)
                return
            row = now

    def _row(self, seq: int) -> Any:
        return self._engine.one(
            "SELECT c.key, c.size, c.digest, c.blob, b.id, b.file, b.data FROM change c "
            "LEFT JOIN blob b ON b.id = c.blob WHERE c.seq = ?",
            seq,
        )

    def _problem_of(self, key: str, row: Any) -> Problem | None:
        if row is None or row[0] != key:
            return Problem("index", f"The key {key!a} has no row of its own.", key)
        _, size, digest, blob, found, file, data = row
        if blob is not None and found is None:
            return Problem("missing", f"The data of {key!a} are not in the index.", key)
        if file is None:
            data = data or b""
            actual, where = (len(data), hashlib.sha256(data).digest()), ""
        else:
            with self._engine.blobs.translated:
                descriptor = self._engine.blobs.open(file)
                if descriptor is None:
                    return Problem("missing", f"The data of {key!a} (file {file}) are gone.", key)
                try:
                    actual = _digest(descriptor)
                finally:
                    os.close(descriptor)
            where = f" (file {file})"
        self._size += actual[0]
        if actual != (size, digest):
            message = f"The data of {key!a}{where} are not those that were stored."
            return Problem("torn", message, key)
        return None

    def _is_current(self, key: str, seq: int) -> bool:
        select = (
            "SELECT 1 FROM entry WHERE key = ? AND seq = ? UNION ALL "
            "SELECT 1 FROM version WHERE key = ? AND seq = ?"
        )
        return self._engine.one(select, key, seq, key, seq) is not None

    # -- what is derived -------------------------------------------------------------------

    def _check_terms(self) -> None:
        """Compare the index of each field with the documents, all at one moment."""
        with self._engine.snapshot() as connection:
            for name, number, wrong in wrong_fields(connection):
                message = f"The index of the field {name!a:.100} has {wrong} wrong terms."
                self._problems.append(Problem("index", f"{message} (number {number})"))

    def _check_journal(self) -> None:
        with self._engine.snapshot() as connection:
            oldest, newest, count = connection.execute(
                "SELECT j.oldest, coalesce(max(c.seq), 0), count(c.seq) FROM state j "
                "LEFT JOIN change c ON c.seq >= j.oldest"
            ).fetchone()
            if newest and newest - oldest + 1 != count:
                self._found(
                    "journal", f"The journal from {oldest} to {newest} has {count} entries."
                )
            stray = connection.execute(
                "SELECT count(*) FROM entry e WHERE NOT EXISTS "
                "(SELECT 1 FROM change c WHERE c.seq = e.seq AND c.key = e.key AND c.action < 2)"
            ).fetchone()[0]
            if stray:
                self._found("index", f"{stray} keys have no row of their own.")


def wrong_fields(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    """Yield name, number and count of wrong terms of each field whose index is not right."""
    select = "SELECT name, id FROM field WHERE state = 2"
    fields = dict(connection.execute(select).fetchall())
    right = dict.fromkeys(fields.values(), 0)
    lacking = dict.fromkeys(fields.values(), 0)
    rows = connection.execute(
        "SELECT e.id, c.metadata FROM entry e CROSS JOIN change c ON c.seq = e.seq"
    )
    has = "SELECT 1 FROM term WHERE slot = ? AND value = ? AND id = ?"
    for entry, metadata in rows if fields else ():
        for slot, value in terms_of(parsed(metadata), fields):
            found = connection.execute(has, (slot, value, entry)).fetchone()
            (right if found else lacking)[slot // SLOTS] += 1
    for name, number in fields.items():
        (count,) = connection.execute(
            "SELECT count(*) FROM term WHERE slot BETWEEN ? AND ?",
            (number * SLOTS, number * SLOTS + SLOTS - 1),
        ).fetchone()
        wrong = lacking[number] + count - right[number]
        if wrong:
            yield name, number, wrong


def orphans(engine: Engine) -> Iterator[tuple[Problem, Callable[[], bool]]]:
    """Yield data that belong to no key, and what removes them."""
    blobs = engine.blobs
    for name in [*blobs.abandoned(), *blobs.stored()]:
        row = "SELECT 1 FROM blob WHERE file = ? UNION ALL SELECT 1 FROM trash WHERE file = ?"
        if engine.one(row, name, name) is None and blobs.size(name) is not None:
            message = f"The file {name} belongs to no key."
            yield Problem("orphan", message), lambda name=name: bool(blobs.remove([name]))  # type: ignore[misc]
    with engine.reading() as connection:
        rows = connection.execute(_UNUSED).fetchall()
    for number, file in rows:
        yield (
            Problem("orphan", f"The data number {number} in the index belong to no key."),
            lambda number=number, file=file: _remove_row(engine, number, file),  # type: ignore[misc]
        )


def repair(engine: Engine) -> list[str]:
    """Remove what belongs to nobody, and the index of fields that is wrong; say what was done."""
    done = []
    moved, removed = engine.tidy()
    if moved or removed:
        done.append(f"Finished what was left over: {moved} files moved, {removed} removed.")
    for problem, remove in orphans(engine):
        if remove():
            done.append(f"Removed: {problem.message}")
    pruned = engine.all(_TOO_MANY)
    for (key,) in pruned:
        engine.writer.run(functools.partial(engine.changes.prune, key=key))
    if pruned:
        done.append(f"Removed: versions of {len(pruned)} keys that are more than are kept now.")
    with engine.snapshot() as connection:
        wrong = list(wrong_fields(connection))
    for name, number, _ in wrong:
        engine.writer.run(lambda step, number=number: _forget_field(step, number))  # type: ignore[misc]
        done.append(f"Removed: the index of the field {name!a:.100}; the next query makes it anew.")
    engine.tidy()  # of what was removed just now
    return done


_TOO_MANY = (
    "SELECT key FROM version GROUP BY key HAVING count(*) > (SELECT keep_versions FROM state)"
)
_IS_UNUSED = (
    "NOT EXISTS (SELECT 1 FROM entry e JOIN change c ON c.seq = e.seq WHERE c.blob = blob.id) "
    "AND NOT EXISTS (SELECT 1 FROM version v JOIN change c ON c.seq = v.seq WHERE c.blob = blob.id)"
)
_UNUSED = (
    "WITH used AS (SELECT c.blob FROM entry e CROSS JOIN change c ON c.seq = e.seq UNION "
    "SELECT c.blob FROM version v CROSS JOIN change c ON c.seq = v.seq) "
    "SELECT id, file FROM blob WHERE id NOT IN (SELECT blob FROM used WHERE blob IS NOT NULL)"
)


def _remove_row(engine: Engine, number: int, file: str | None) -> bool:
    def work(step: Step) -> bool:
        # Looked at again where nobody can come between.
        gone = step.execute(f"DELETE FROM blob WHERE id = ? AND {_IS_UNUSED}", (number,)).rowcount
        if gone and file is not None:
            step.free(file)
        return bool(gone)

    return engine.writer.run(work)


def _forget_field(step: Step, number: int) -> None:
    slots = (number * SLOTS, number * SLOTS + SLOTS - 1)
    step.execute("DELETE FROM term WHERE slot BETWEEN ? AND ?", slots)
    step.execute("UPDATE field SET state = 0, done = 0 WHERE id = ?", (number,))
    step.execute("UPDATE state SET fields = fields + 1")


def _digest(descriptor: int) -> tuple[int, bytes]:
    digest, size = hashlib.sha256(), 0
    with contextlib.closing(os.fdopen(os.dup(descriptor), "rb", buffering=0)) as stream:
        while piece := stream.read(_BUFFER):
            digest.update(piece)
            size += len(piece)
    return size, digest.digest()
