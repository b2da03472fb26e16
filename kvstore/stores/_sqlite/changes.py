"""What a change does to the index: one function for each of the ways, all within a step."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from kvstore.documents import JsonObject
from kvstore.stores._sqlite.blobs import Received
from kvstore.stores._sqlite.fields import Fields
from kvstore.stores._sqlite.rows import (
    DELETE,
    SET,
    UPDATE,
    Kept,
    Row,
    current,
    permissions_text,
    text_of,
    versions,
)
from kvstore.stores._sqlite.terms import changed_terms
from kvstore.stores._sqlite.writer import Step
from kvstore.values import DEFAULT_MIMETYPE
from kvstore.writes import Change, Condition, Written, missing, missing_version

_APPEND = (
    "INSERT INTO change (action, key, revision, metadata, permissions, created, modified, changed, "
    "size, mimetype, digest, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FORGET = "DELETE FROM change WHERE seq = ? AND seq < (SELECT oldest FROM journal)"
#: SHA-256 of no bytes.
_NOTHING = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
#: The journal is cut once in so many changes, by as many.
_CUT_EVERY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a store remembers."""

    versions: int
    changes: int
    #: Seconds; None for ever.
    age: float | None


class Changes:
    """Applies changes to the index.

    Args:
        fields: the names that have terms.
        keeping: what is remembered.
    """

    def __init__(self, fields: Fields, keeping: Keeping) -> None:
        self._fields = fields
        self._keeping = keeping

    def write(
        self, step: Step, key: str, change: Change, received: Received | None, owner: str
    ) -> Written:
        """Do *change* to *key*.

        Raises:
            KeyNotFoundError, ConflictError, InvalidMetadataError: as the change says.
        """
        old = current(step.connection, key)
        before = None if old is None else old.record
        change.check(key, before)
        metadata = change.new_metadata(before)
        now = time.time()
        size, digest, blob = self._data(step, old, received)
        if received is None:
            mimetype = DEFAULT_MIMETYPE if before is None else before.mimetype
        else:
            mimetype = change.mimetype or DEFAULT_MIMETYPE
        is_same = before is not None and metadata is before.metadata
        revision = secrets.token_hex(8)
        seq = step.execute(
            _APPEND,
            (
                SET if old is None else UPDATE,
                key,
                revision,
                old.text if old is not None and is_same else text_of(metadata),
                permissions_text(change.new_permissions(before, owner)),
                now if before is None else before.created,
                now,
                now,
                size,
                mimetype,
                digest,
                blob,
            ),
        ).lastrowid
        if old is None:
            entry = step.execute("INSERT INTO entry (key, seq) VALUES (?, ?)", (key, seq)).lastrowid
        else:
            entry = old.id
            step.execute("UPDATE entry SET seq = ? WHERE id = ?", (seq, entry))
            self._supersede(step, old, blob)
        if not is_same:
            self._index(step, entry or 0, None if before is None else before.metadata, metadata)
        self._cut(step, seq or 0)
        return Written(revision, old is not None, metadata)

    def restore(self, step: Step, key: str, version: str, change: Change, owner: str) -> Written:
        """Do *change*, which sets *key* back to a version, with the data that are there.

        Raises:
            KeyNotFoundError: the version is not kept any more.
        """
        now = current(step.connection, key)
        candidates: list[Row | Kept] = [] if now is None else [now]
        for kept in [*candidates, *versions(step.connection, key)]:
            record = kept.record
            if record.revision == version:
                digest = bytes.fromhex((record.digest or "")[7:])
                received = Received(record.size, digest, None, None, kept.blob)
                return self.write(step, key, change, received, owner)
        raise missing_version(key, version)

    def delete(self, step: Step, key: str, condition: Condition) -> JsonObject:
        """Remove *key* and return its last metadata.

        Raises:
            KeyNotFoundError, ConflictError: it is missing, or changed.
        """
        old = current(step.connection, key)
        if old is None:
            raise missing(key)
        record = old.record
        condition.check(key, record.revision, exists=True)
        # The journal tells that row; of an earlier version there is one already.
        seq = step.execute(
            "INSERT INTO change (action, key, revision, metadata, permissions, created, modified, "
            "changed, size, mimetype, digest, blob) SELECT ?, key, revision, metadata, "
            "permissions, created, modified, ?, size, mimetype, digest, NULL FROM change "
            "WHERE seq = ?",
            (DELETE, time.time(), old.seq),
        ).lastrowid
        step.execute("DELETE FROM entry WHERE id = ?", (old.id,))
        self._supersede(step, old, None)
        self._index(step, old.id, record.metadata, None)
        self._cut(step, seq or 0)
        return record.metadata

    # -- data ------------------------------------------------------------------------------

    def _data(
        self, step: Step, old: Row | None, received: Received | None
    ) -> tuple[int, bytes, int | None]:
        """Store what was received, and return size, digest and the row of the blob."""
        if received is None:
            if old is None:
                return 0, _NOTHING, None
            return old.record.size, bytes.fromhex((old.record.digest or "")[7:]), old.blob
        return received.size, received.digest, self._blob(step, old, received)

    def _blob(self, step: Step, old: Row | None, received: Received) -> int | None:
        if received.size == 0:
            return None
        if received.blob is not None:
            return received.blob
        same = self._same(step, old, received) if old is not None else None
        if same is not None:
            # It replaces the bytes that are there: they should be equal, and are from now on.
            self._put(step, same, received)
            return same
        if old is not None and old.blob is not None and not self._has_versions(step, old):
            self._put(step, old.blob, received)
            return old.blob
        if received.file is not None:
            step.published.append(received.file)
        values = (received.file, received.data)
        return step.execute("INSERT INTO blob (file, data) VALUES (?, ?)", values).lastrowid

    def _put(self, step: Step, blob: int, received: Received) -> None:
        (file,) = step.execute("SELECT file FROM blob WHERE id = ?", (blob,)).fetchone()
        if received.file is not None:
            step.published.append(received.file)
        values = (received.file, received.data, blob)
        step.execute("UPDATE blob SET file = ?, data = ? WHERE id = ?", values)
        if file is not None:
            step.free(file)

    def _same(self, step: Step, old: Row, received: Received) -> int | None:
        """Return the blob of this key that has the same bytes, if there is one."""
        digest = f"sha256:{received.digest.hex()}"
        if old.record.digest == digest:
            return old.blob
        if self._keeping.versions:
            for kept in versions(step.connection, old.record.key):
                if kept.record.digest == digest:
                    return kept.blob
        return None

    # -- versions --------------------------------------------------------------------------

    def _supersede(self, step: Step, old: Row, blob: int | None) -> None:
        """Make *old* an earlier version, or forget it; *blob* is what the key has now."""
        key = old.record.key
        if self._keeping.versions:
            step.execute("INSERT INTO version VALUES (?, ?)", (key, old.seq))
        kept = versions(step.connection, key)
        lost: list[Kept] = kept[self._keeping.versions :]
        if lost:
            first = (key, lost[0].seq)
            step.execute("DELETE FROM version WHERE key = ? AND seq <= ?", first)
        needed = {blob, *(version.blob for version in kept[: self._keeping.versions])}
        for unused in {old.blob, *(version.blob for version in lost)} - needed - {None}:
            row = step.execute("SELECT file FROM blob WHERE id = ?", (unused,)).fetchone()
            step.execute("DELETE FROM blob WHERE id = ?", (unused,))
            if row is not None and row[0] is not None:
                step.free(row[0])
        # What the journal has forgotten is needed by nobody now.
        forgotten = [(version.seq,) for version in lost]
        if not self._keeping.versions:
            forgotten.append((old.seq,))
        step.connection.executemany(_FORGET, forgotten)

    def _has_versions(self, step: Step, old: Row) -> bool:
        if self._keeping.versions:
            return True
        found = step.execute("SELECT 1 FROM version WHERE key = ? LIMIT 1", (old.record.key,))
        return found.fetchone() is not None

    # -- index and journal -----------------------------------------------------------------

    def _index(
        self, step: Step, entry: int, old: JsonObject | None, new: JsonObject | None
    ) -> None:
        fields = self._fields.indexed(step)
        if new is not None:
            self._fields.learn(step, new)
        if not fields:
            return
        gone, come = changed_terms(old, new, fields)
        if gone:
            delete = "DELETE FROM term WHERE slot = ? AND value = ? AND id = ?"
            step.connection.executemany(delete, [(*term, entry) for term in gone])
        if come:
            insert = "INSERT OR IGNORE INTO term VALUES (?, ?, ?)"
            step.connection.executemany(insert, [(*term, entry) for term in come])

    def _cut(self, step: Step, seq: int) -> None:
        """Forget the oldest changes, now and then; what is current or kept stays."""
        if seq % _CUT_EVERY:
            return
        oldest = seq - self._keeping.changes + 1
        if self._keeping.age is not None:
            young = time.time() - self._keeping.age
            row = step.execute(
                "SELECT seq FROM change WHERE seq >= (SELECT oldest FROM journal) AND changed >= ? "
                "ORDER BY seq LIMIT 1",
                (young,),
            ).fetchone()
            oldest = max(oldest, seq if row is None else row[0])
        cut_journal(step, min(oldest, seq))


def cut_journal(step: Step, oldest: int) -> None:
    """Forget the changes before *oldest*."""
    (before,) = step.execute("SELECT oldest FROM journal").fetchone()
    if oldest <= before:
        return
    step.execute("UPDATE journal SET oldest = ?", (oldest,))
    step.execute(
        "DELETE FROM change WHERE seq >= ? AND seq < ? "
        "AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.key = change.key AND e.seq = change.seq) "
        "AND NOT EXISTS (SELECT 1 FROM version v WHERE v.key = change.key AND v.seq = change.seq)",
        (before, oldest),
    )
