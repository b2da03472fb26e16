"""Which names documents have, and which of them have an index; it is made when first asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from kvstore.documents import JsonObject
from kvstore.errors import StorageError, StorageFullError, UnavailableError
from kvstore.stores._sqlite.rows import parsed
from kvstore.stores._sqlite.terms import names_of, terms_of
from kvstore.stores._sqlite.writer import Step, Writer

_NONE, _MAKING, _READY = range(3)
#: Names that a process remembers to have seen; metadata may have names without end.
_KNOWN = 20_000
#: Entries that are indexed in one transaction, a quarter of a second; others write between two.
#: Each writes most pages of the index of a field anew, so that small ones would take for ever.
_CHUNK = 30_000
#: Characters of metadata after which a transaction ends, too.
_CHUNK_SIZE = 64 << 20

#: Seconds that a query waits for others to write; then it does without an index.
_PATIENCE = 0.25

_ROWS = (
    "SELECT e.id, c.metadata FROM entry e CROSS JOIN change c ON c.seq = e.seq "
    "WHERE e.id > ? ORDER BY e.id LIMIT ?"
)


class Rows(Protocol):
    """What reads single rows: the engine."""

    def one(self, sql: str, *arguments: object) -> Any:
        """Return the first row that a statement finds."""


class Fields:
    """The names of a store. All but :meth:`find` and :meth:`ensure` is for the writer's thread."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._known: set[str] = set()
        self._indexed: dict[str, int] = {}
        self._count = -1
        # Since the last time that all was forgotten: what was committed meanwhile is true.
        self._has_learnt = False
        writer.on_rollback = self.forget

    def forget(self) -> None:
        """Remember nothing, as what was learnt may have been undone."""
        if self._has_learnt:
            self._known.clear()
            self._count = -1
            self._has_learnt = False

    def indexed(self, step: Step, count: int) -> Mapping[str, int]:
        """Return the names whose terms are to be kept, and their numbers.

        Args:
            count: `State.fields`, which tells whether what is remembered is out of date.
        """
        if count != self._count:
            rows = step.execute("SELECT name, id FROM field WHERE state > ?", (_NONE,))
            self._indexed = dict(rows.fetchall())
            self._count = count
            self._has_learnt = True
        return self._indexed

    def learn(self, step: Step, metadata: JsonObject) -> None:
        """Note the names of a document."""
        new = [name for name in names_of(metadata) if name not in self._known]
        if not new:
            return
        if len(self._known) > _KNOWN:
            self._known.clear()
        rows = [(name,) for name in new]
        insert = "INSERT OR IGNORE INTO field (name, state, done) VALUES (?, 0, 0)"
        step.connection.executemany(insert, rows)
        self._known.update(new)
        self._has_learnt = True

    def find(self, rows: Rows, names: Collection[str]) -> dict[str, int]:
        """Return the names that documents have had, with their numbers, negative without index."""
        found = {}
        for name in names:
            row = rows.one("SELECT id, state FROM field WHERE name = ?", name)
            if row is not None:
                found[name] = row[0] if row[1] == _READY else -row[0]
        return found

    def ensure(self, numbers: Collection[int]) -> bool:
        """Index the fields of these numbers; False if that cannot be now."""
        if self._writer.mine() is not None:
            return False  # a rollback would undo it, and others would wait for the whole
        try:
            while not self._writer.run_soon(lambda step: self._advance(step, numbers), _PATIENCE):
                pass
        except (StorageError, StorageFullError, UnavailableError):
            return False
        return True

    def _advance(self, step: Step, numbers: Collection[int]) -> bool:
        """Index some more entries; True when none are left."""
        marks = ", ".join("?" * len(numbers))
        rows = step.execute(
            f"SELECT id, name, state, done FROM field WHERE id IN ({marks}) AND state != {_READY}",
            tuple(numbers),
        ).fetchall()
        if not rows:
            return True
        if any(state == _NONE for _, _, state, _ in rows):
            # From this commit on all who write keep the terms of these fields.
            self._mark(step, [row[0] for row in rows], _MAKING, None)
            return False
        begin = min(done for *_, done in rows)
        fields = {name: number for number, name, _, _ in rows}
        terms: list[tuple[int, int | float | str, int]] = []
        count = size = 0
        last = begin
        for last, metadata in step.execute(_ROWS, (begin, _CHUNK)):
            terms += [(slot, value, last) for slot, value in terms_of(parsed(metadata), fields)]
            count += 1
            size += len(metadata)
            if size > _CHUNK_SIZE:
                break
        terms.sort(key=_in_order)
        step.connection.executemany("INSERT OR IGNORE INTO term VALUES (?, ?, ?)", terms)
        is_done = count < _CHUNK and size <= _CHUNK_SIZE
        self._mark(step, list(fields.values()), _READY if is_done else _MAKING, last)
        return False

    def _mark(self, step: Step, numbers: list[int], state: int, done: int | None) -> None:
        values = [(state, done, number) for number in numbers]
        update = "UPDATE field SET state = ?, done = coalesce(?, done) WHERE id = ?"
        step.connection.executemany(update, values)
        step.execute("UPDATE state SET fields = fields + 1")


def _in_order(term: tuple[int, int | float | str, int]) -> tuple[int, bool, int | float | str]:
    # Neighbours in the index together: it need not matter that text and numbers do not compare.
    return term[0], isinstance(term[1], str), term[1]
