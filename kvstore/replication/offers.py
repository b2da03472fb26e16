"""What the source has to offer: its records beside what is known of them, in the order of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from kvstore.documents import dump_json
from kvstore.errors import IntegrityError, StoreError
from kvstore.parallel import Crew, in_order
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.records import Found, look, records_of
from kvstore.replication.rules import RESERVED, Rules
from kvstore.replication.stamps import Stamp, stamps_of
from kvstore.replication.state import Entry, State
from kvstore.values import Record

#: Records that are looked at together, and the bytes of metadata after which there are enough.
CHUNK = 500
_CHUNK_BYTES = 8 << 20
#: Keys that are asked for one by one; of more a listing tells which are there.
_FEW = 16


@dataclass(frozen=True, slots=True)
class Offer:
    """A key of the source, or one that it had."""

    key: str
    #: What the source has; None: it has it no more, unless there is an error.
    record: Record | None
    #: What is known of it.
    known: Entry | None
    #: The stamp of the record; "" where there is none.
    stamp: str = ""
    #: Why it is not known what the source has.
    error: StoreError | None = None

    @property
    def is_news(self) -> bool:
        """Whether the source has something else than when it was looked at last."""
        return self.known is None or self.known.source != self.stamp


def all_offers(source: ReadOnlyStore, state: State, rules: Rules, crew: Crew) -> Iterator[Offer]:
    """Yield all that the rules ask for, and all that the source had and has no more.

    Raises:
        IntegrityError: the source does not list in the order of keys, so that nobody can say what
            it has no more.
    """
    records = _in_order(source, records_of(source, rules.query(), crew))
    entries = state.entries(rules.prefix)
    stamp = stamps_of(source)
    record, entry = next(records, None), next(entries, None)
    while record is not None or entry is not None:
        key = min(each.key or "" for each in (record, entry) if each is not None)
        known = found = None
        if entry is not None and entry.key == key:
            known, entry = entry, next(entries, None)
        if record is not None and record.key == key:
            found, record = record, next(records, None)
        yield _offer(key, found, known, stamp)


def _in_order(source: ReadOnlyStore, records: Iterable[Found]) -> Iterator[Found]:
    last = ""
    for record in records:
        key = record.key or ""
        if key <= last:
            raise IntegrityError(f"{source!r:.100} lists {key!a:.100} after {last!a:.100}.")
        last = key
        if not key.startswith(RESERVED):
            yield record


def _offer(key: str, found: Found | None, known: Entry | None, stamp: Stamp) -> Offer:
    if isinstance(found, StoreError):
        return Offer(key, None, known, error=found)
    return Offer(key, found, known, "" if found is None else stamp(found))


def offers_of(
    source: ReadOnlyStore, state: State, rules: Rules, keys: Iterable[str], crew: Crew
) -> Iterator[Offer]:
    """Yield what there is to say of these keys; those that were not asked for are left out."""
    wanted, stamp = rules.query().predicate(), stamps_of(source)
    asked = [key for key in keys if not key.startswith(RESERVED) and key.startswith(rules.prefix)]
    for key, found in zip(asked, in_order(crew, partial(look, source), asked), strict=True):
        if isinstance(found, Record) and not wanted(found):
            continue
        known = state.get(key)
        if found is not None or known is not None:
            yield _offer(key, found, known, stamp)


def chunks(offers: Iterable[Offer]) -> Iterator[list[Offer]]:
    """Yield the offers, as many at a time as memory is meant for."""
    chunk: list[Offer] = []
    size = 0
    for offer in offers:
        chunk.append(offer)
        if offer.record is not None:
            size += len(dump_json(offer.record.metadata))
        if len(chunk) >= CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def really_gone(source: ReadOnlyStore, rules: Rules, gone: list[str]) -> set[str]:
    """Return which of these keys, that a filter did not find, the source has no more."""
    if rules.where is None or not gone:
        return set(gone)
    if len(gone) <= _FEW:
        return {key for key in gone if not _may_exist(source, key)}
    missing, last = set(gone), max(gone)
    for key in source.query_keys(prefix=rules.prefix, after=_before(min(gone))):
        missing.discard(key)
        if key >= last:
            break
    return missing


def _may_exist(source: ReadOnlyStore, key: str) -> bool:
    try:
        return source.exists(key)
    except StoreError:
        return True  # nothing is deleted because nobody could look


def _before(key: str) -> str | None:
    """Return a text behind which *key* is the first of those that are looked for, nearly."""
    return key[:-1] or None
