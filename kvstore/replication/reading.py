"""What is read at the source, to be sent.

Of a record that is read again, the data and metadata are those of one moment. What is remembered is
the one that was offered: if it was changed between, the next pass finds that out, and that the
destination has it already.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from kvstore.errors import AuthorizationError, UnsupportedOperationError
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.deciding import Step
from kvstore.replication.records import digest_of
from kvstore.replication.rules import Rules
from kvstore.replication.stamps import is_made_up
from kvstore.streams import Source
from kvstore.values import DEFAULT_MIMETYPE, Permissions, Record, Value
from kvstore.where import json_equal
from kvstore.writes import Change, Condition

#: Bytes of data up to which a key travels with others; it is held in memory until then.
SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Load:
    """A change for the destination, and what the source had when it was read."""

    step: Step
    change: Change
    #: Bytes of data in it.
    size: int
    #: What is to be closed when it was sent.
    value: Value | None = None

    def close(self) -> None:
        """Close what it reads from."""
        if self.value is not None:
            self.value.close()


class Reader:
    """Reads what is to be sent, or to be compared. Thread-safe.

    Args:
        source: the store.
        rules: whether permissions travel.
        conditional: whether the destination honours conditions for all that is sent at once.
    """

    def __init__(self, source: ReadOnlyStore, rules: Rules, *, conditional: bool) -> None:
        self._source = source
        self._with_permissions = rules.permissions == "copy"
        #: Whether the destination honours conditions for all that is sent at once.
        self.conditional = conditional

    def load(self, step: Step) -> Load:
        """Return what *step* sends; small data is read now.

        Raises:
            StoreError: it cannot be read.
        """
        record = step.offer.record
        assert record is not None  # noqa: S101 - for the type checker
        if step.action == "describe":
            change = Change(metadata=record.metadata, condition=self.condition(step))
            return Load(step, change, 0)
        value = self._source.get(record.key)
        if not 0 <= value.size <= SMALL:
            return self._loaded(step, value, Source(value), value)
        with closing(value):
            return self._loaded(step, value, Source(value.read()), None)

    def _loaded(self, step: Step, value: Value, data: Source, kept: Value | None) -> Load:
        record = value.record
        change = Change(
            data=data,
            metadata=value.metadata,
            mimetype=None if record.mimetype == DEFAULT_MIMETYPE else record.mimetype,
            permissions=self.permissions(record),
            condition=self.condition(step),
        )
        return Load(step, change, max(record.size, 0), kept)

    def is_gone(self, step: Step) -> bool:
        """Tell whether the source has the key no more."""
        return not self._source.exists(step.offer.key)

    def is_equal(self, step: Step, destination: ReadOnlyStore) -> bool:
        """Tell whether both sides have the same, reading what nobody recorded a digest of.

        Raises:
            StoreError: one of them cannot be read.
        """
        key = step.offer.key
        with closing(self._source.get(key)) as mine, closing(destination.get(key)) as other:
            if mine.size != other.size or not json_equal(mine.metadata, other.metadata):
                return False
            if mine.mimetype not in (DEFAULT_MIMETYPE, other.mimetype):
                return False
            return digest_of(mine) == digest_of(other)

    def permissions(self, record: Record) -> Permissions | None:
        """Return the permissions that travel with *record*, None for none."""
        if not self._with_permissions:
            return None
        if record.permissions is not None:
            return record.permissions
        get = getattr(self._source, "get_permissions", None)
        try:
            told: Permissions | None = None if get is None else get(record.key)
        except (AuthorizationError, UnsupportedOperationError):
            return None
        return told

    def condition(self, step: Step) -> Condition:
        """Return the condition that the destination is what it was when this was decided."""
        if not self.conditional:
            return Condition()
        if step.here is None:
            return Condition(create_only=True)
        return Condition() if is_made_up(step.here) else Condition(step.here)
