"""What a change does to the index: one function for each of the ways, all within a step."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import replace

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
from kvstore.stores._sqlite.state import State, read_state
from kvstore.stores._sqlite.terms import changed_terms
from kvstore.stores._sqlite.writer import Step
from kvstore.values import DEFAULT_MIMETYPE
from kvstore.writes import Change, Condition, Written, missing, missing_version

_APPEND = (
    "INSERT INTO change (action, key, revision, metadata, permissions, created, modified, changed, "
    "size, mimetype, digest, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
#: SHA-256 of no bytes.
_NOTHING = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
#: The journal is cut once in so many changes, by as many.
_CUT_EVERY = 512


class Changes:
    """Applies changes to the index.

    Args:
        fields: the names that have terms.
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def write(
        self, step: Step, key: str, change: Change, received: Received | None, owner: str
    ) -> Written:
        """Do *change* to *key*.

        Raises:
            KeyNotFoundError, ConflictError, InvalidMetadataError: as the change says.
        """
        state = read_state(step.connection)
        old = current(step.connection, key)
        before = None if old is None else old.record
        change.check(key, before)
        metadata = change.new_metadata(before)
        now = time.time()
        size, digest, blob = self._data(step, state, old, received)
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
                old.permissions
                if old is not None and change.permissions is None
                else permissions_text(change.new_permissions(before, owner)),
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
            self._supersede(step, state, old, blob)
        if not is_same:
            was = None if before is None else before.metadata
            self._index(step, state, entry or 0, was, metadata)
        self._cut(step, state, seq or 0)
        return Written(revision, old is not None, metadata, now, f"sha256:{digest.hex()}")

    def restore(self, step: Step, key: str, version: str, change: Change, owner: str) -> Written:
        """Do *change*, with the data, metadata and media type of a version, to *key*.

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
                change = replace(change, metadata=record.metadata, mimetype=record.mimetype)
                return self.write(step, key, change, received, owner)
        raise missing_version(key, version)

    def delete(self, step: Step, key: str, condition: Condition) -> JsonObject:
        """Remove *key* and return its last metadata.

        Raises:
            KeyNotFoundError, ConflictError: it is missing, or changed.
        """
        state = read_state(step.connection)
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
        self._supersede(step, state, old, None)
        self._index(step, state, old.id, record.metadata, None)
        self._cut(step, state, seq or 0)
        return record.metadata

    def prune(self, step: Step, key: str) -> None:
        """Forget the versions of *key* that are more than the store keeps now."""
        now = current(step.connection, key)
        self._prune(step, read_state(step.connection), key, None if now is None else now.blob)

    # -- data ------------------------------------------------------------------------------

    def _data(
        self, step: Step, state: State, old: Row | None, received: Received | None
    ) -> tuple[int, bytes, int | None]:
        """Store what was received, and return size, digest and the row of the blob."""
        if received is None:
            if old is None:
                return 0, _NOTHING, None
            return old.record.size, bytes.fromhex((old.record.digest or "")[7:]), old.blob
        return received.size, received.digest, self._blob(step, state, old, received)

    def _blob(self, step: Step, state: State, old: Row | None, received: Received) -> int | None:
        if received.size == 0:
            return None
        if received.blob is not None:
            return received.blob
        same = self._same(step, state, old, received) if old is not None else None
        if same is not None:
            # It replaces the bytes that are there: they should be equal, and are from now on.
            (file,) = step.execute("SELECT file FROM blob WHERE id = ?", (same,)).fetchone()
            self._replace(step, same, file, received)
            return same
        keeps = state.keep_versions or (old is not None and old.has_versions)
        if old is not None and old.blob is not None and not keeps:
            self._replace(step, old.blob, old.file, received)
            return old.blob
        if received.file is not None:
            step.published.append(received.file)
        values = (received.file, received.data)
        return step.execute("INSERT INTO blob (file, data) VALUES (?, ?)", values).lastrowid

    def _replace(self, step: Step, blob: int, file: str | None, received: Received) -> None:
        if received.file is not None:
            step.published.append(received.file)
        values = (received.file, received.data, blob)
        step.execute("UPDATE blob SET file = ?, data = ? WHERE id = ?", values)
        if file is not None:
            step.free(file)

    def _same(self, step: Step, state: State, old: Row, received: Received) -> int | None:
        """Return the blob of this key that has the same bytes, if there is one."""
        digest = f"sha256:{received.digest.hex()}"
        if old.record.digest == digest:
            return old.blob
        if state.keep_versions:
            for kept in versions(step.connection, old.record.key):
                if kept.record.digest == digest:
                    return kept.blob
        return None

    # -- versions --------------------------------------------------------------------------

    def _supersede(self, step: Step, state: State, old: Row, blob: int | None) -> None:
        """Make *old* an earlier version, or forget it; *blob* is what the key has now."""
        if state.keep_versions or old.has_versions:
            self._keep(step, state, old, blob)
            return
        if old.blob is not None and old.blob != blob:
            _remove_blob(step, old.blob)
        # What the journal has forgotten is needed by nobody now.
        if old.seq < state.oldest:
            step.execute(_FORGET, (old.seq,))

    def _keep(self, step: Step, state: State, old: Row, blob: int | None) -> None:
        step.execute("INSERT INTO version VALUES (?, ?)", (old.record.key, old.seq))
        self._prune(step, state, old.record.key, blob)

    def _prune(self, step: Step, state: State, key: str, blob: int | None) -> None:
        kept = versions(step.connection, key)
        lost = kept[state.keep_versions :]
        if not lost:
            return
        step.execute("DELETE FROM version WHERE key = ? AND seq <= ?", (key, lost[0].seq))
        needed = {blob, *(version.blob for version in kept[: state.keep_versions])}
        for unused in {version.blob for version in lost} - needed - {None}:
            _remove_blob(step, unused)
        forgotten = [(version.seq,) for version in lost if version.seq < state.oldest]
        step.connection.executemany(_FORGET, forgotten)

    # -- index and journal -----------------------------------------------------------------

    def _index(
        self,
        step: Step,
        state: State,
        entry: int,
        old: JsonObject | None,
        new: JsonObject | None,
    ) -> None:
        fields = self._fields.indexed(step, state.fields)
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

    def _cut(self, step: Step, state: State, seq: int) -> None:
        """Forget the oldest changes, now and then; what is current or kept stays."""
        if seq % _CUT_EVERY:
            return
        oldest = seq - state.keep_changes + 1
        if state.keep_changes_for != math.inf:
            young = time.time() - state.keep_changes_for
            row = step.execute(
                "SELECT seq FROM change WHERE seq >= ? AND changed >= ? ORDER BY seq LIMIT 1",
                (state.oldest, young),
            ).fetchone()
            oldest = max(oldest, seq if row is None else row[0])
        oldest = min(oldest, seq)
        if oldest > state.oldest:
            step.execute("UPDATE state SET oldest = ?", (oldest,))
            step.execute(_CUT, (state.oldest, oldest))


def _remove_blob(step: Step, blob: int | None) -> None:
    row = step.execute("SELECT file FROM blob WHERE id = ?", (blob,)).fetchone()
    step.execute("DELETE FROM blob WHERE id = ?", (blob,))
    if row is not None and row[0] is not None:
        step.free(row[0])


_FORGET = "DELETE FROM change WHERE seq = ?"
_CUT = (
    "DELETE FROM change WHERE seq >= ? AND seq < ? "
    "AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.key = change.key AND e.seq = change.seq) "
    "AND NOT EXISTS (SELECT 1 FROM version v WHERE v.key = change.key AND v.seq = change.seq)"
)
