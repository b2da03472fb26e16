"""What tells one state of a record from others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kvstore.documents import dump_json
from kvstore.hashing import sha256
from kvstore.readonly import ReadOnlyStore
from kvstore.values import Record

#: Returns the stamp of a record.
Stamp: TypeAlias = Callable[[Record], str]

#: What a stamp begins with that is no revision.
_MADE_UP = "~"


def stamps_of(store: ReadOnlyStore) -> Stamp:
    """Return what gives the stamps of the records of *store*.

    Where data and metadata change as one that is the revision. Else, as on a file server, the
    revision is that of the data alone, and the stamp is a hash of all facts.
    """
    return _revision if store.info()["atomic_set"] else _facts


def is_made_up(stamp: str) -> bool:
    """Tell whether a stamp is no revision, and so no condition."""
    return stamp.startswith(_MADE_UP)


def _revision(record: Record) -> str:
    return _facts(record) if record.revision is None else record.revision


def _facts(record: Record) -> str:
    facts = (record.revision, record.digest, record.mimetype, record.size, record.modified)
    told = sha256(dump_json([*facts, record.metadata]))
    return _MADE_UP + told.removeprefix("sha256:")[:32]
