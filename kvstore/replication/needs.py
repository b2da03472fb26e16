"""What the destination has of what is offered, all of it in one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from kvstore.errors import StoreError
from kvstore.parallel import Crew, in_order
from kvstore.profiles.having import Claim, Finding, judge
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.offers import Offer
from kvstore.replication.records import Found, look, records_of
from kvstore.replication.stamps import stamps_of
from kvstore.values import Record

#: What the destination has, or why that cannot be told of one key.
Answer: TypeAlias = Finding | StoreError
_Compare: TypeAlias = Callable[[Iterable[Claim]], Iterable[Finding]]
#: Returns the record under each key at the destination, None where there is none.
_Look: TypeAlias = Callable[[list[str]], Iterable[Found | None]]


class Needs:
    """Compares offers with the destination.

    Where that is a server which compares by itself it is asked, by as few requests as it allows.
    Else its records are read beside the offers, or those of single keys are looked up.

    Args:
        destination: the store.
        crew: the threads for what is looked up.
    """

    def __init__(self, destination: ReadOnlyStore, crew: Crew) -> None:
        self._destination = destination
        self._crew = crew
        self._stamp = stamps_of(destination)
        can = destination.info().get("capabilities", ())
        self._compare = getattr(destination, "compare", None) if "have" in can else None

    def in_pass(self, prefix: str) -> Callable[[list[Offer]], list[Answer]]:
        """Return what answers for chunks that come in the order of their keys."""
        if self._compare is not None:
            return self.of
        beside = _Beside(records_of(self._destination, Query(prefix=prefix), self._crew))
        return lambda offers: self._judged(offers, beside)

    def of(self, offers: list[Offer]) -> list[Answer]:
        """Answer for these."""
        if self._compare is None:
            return self._judged(offers, self._looked_up)
        return [*self._compared(offers, self._compare)]

    def is_there(self, key: str) -> bool:
        """Tell whether the destination has *key*."""
        return isinstance(look(self._destination, key), Record)

    def _compared(self, offers: list[Offer], compare: _Compare) -> list[Finding]:
        findings = list(compare(map(_brief, offers)))
        # What is known and unchanged needs no metadata to be told, unless it was changed there.
        doubtful = [
            number
            for number, offer in enumerate(offers)
            if offer.record is not None
            and not offer.is_news
            and offer.known is not None
            and findings[number].revision != offer.known.there
        ]
        told = compare(_claim(offers[number]) for number in doubtful)
        for number, finding in zip(doubtful, told, strict=True):
            findings[number] = finding
        return findings

    def _judged(self, offers: list[Offer], look: _Look) -> list[Answer]:
        records = look([offer.key for offer in offers])
        return list(map(self._judge, offers, records))

    def _judge(self, offer: Offer, record: Found | None) -> Answer:
        if isinstance(record, StoreError):
            return record
        if record is None:
            return judge(_claim(offer), None)
        stamp = self._stamp(record)
        if record.revision != stamp:
            record = replace(record, revision=stamp)
        is_known = not offer.is_news and offer.known is not None and offer.known.there == stamp
        return judge(_claim(offer) if not is_known else _brief(offer), record)

    def _looked_up(self, keys: list[str]) -> Iterator[Found | None]:
        return in_order(self._crew, partial(look, self._destination), keys)


class _Beside:
    """Records in the order of their keys, asked for in that order."""

    def __init__(self, records: Iterator[Found]) -> None:
        self._records = records
        self._next = next(records, None)

    def __call__(self, keys: list[str]) -> Iterator[Found | None]:
        for key in keys:
            while self._next is not None and (self._next.key or "") < key:
                self._next = next(self._records, None)
            here = self._next
            yield here if here is not None and here.key == key else None


def _brief(offer: Offer) -> Claim:
    claim = _claim(offer)
    return claim if offer.is_news else replace(claim, metadata=None)


def _claim(offer: Offer) -> Claim:
    record = offer.record
    if record is None:
        return Claim(offer.key)
    return Claim(
        record.key, digest=record.digest, metadata=record.metadata, mimetype=record.mimetype
    )
