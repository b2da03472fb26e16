"""Records that need others: what has to be at the destination before they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from kvstore.errors import InvalidKeyError, InvalidRequestError
from kvstore.keys import check_key
from kvstore.replication.offers import Offer
from kvstore.replication.report import Outcome
from kvstore.values import Record
from kvstore.where import MISSING, lookup

#: Keys that one record may need.
_MOST = 1000
#: Keys of which it is remembered within a pass that they were sent, or not.
_REMEMBERED = 100_000


#: Returns what there is to say of each key, None where the source has no such key.
Look: TypeAlias = Callable[[list[str]], Iterable[Offer | None]]


class Requirements:
    """What was needed in a pass until now, and what came of it.

    Args:
        field: where records name the keys that they need.
        look: finds the offers for keys.
        is_there: tells whether the destination has a key that the source has not.
    """

    def __init__(self, field: str, look: Look, is_there: Callable[[str], bool]) -> None:
        self._field = field
        self._look = look
        self._is_there = is_there
        self._met: dict[str, bool] = {}

    def begin(self) -> None:
        """A pass begins."""
        self._met.clear()

    def layers(self, offers: Iterable[Offer]) -> Iterator[list[Offer]]:
        """Yield what these need and nobody asked for yet, in turn: nothing before what it needs.

        Two that need each other are in one.
        """
        if len(self._met) > _REMEMBERED:
            self._met.clear()
        found = self._found(offers)
        waiting = {key: self._needs_of(offer) & found.keys() for key, offer in found.items()}
        while waiting:
            free = [key for key, needs in waiting.items() if needs.isdisjoint(waiting)]
            layer = sorted(free or waiting)
            yield [found[key] for key in layer]
            for key in layer:
                del waiting[key]

    def _found(self, offers: Iterable[Offer]) -> dict[str, Offer]:
        """Return the offers of all that these need, and that those need in turn."""
        found: dict[str, Offer] = {}
        while True:
            needed = {key for offer in offers for key in self._needs_of(offer)}
            asked = sorted(needed - self._met.keys())
            if not asked:
                return found
            new = {}
            for key, offer in zip(asked, self._look(asked), strict=True):
                self._met[key] = offer is not None or self._is_there(key)
                if offer is not None:
                    new[key] = offer
            found |= new
            offers = new.values()

    def note(self, outcome: Outcome) -> None:
        """Remember what came of a key, if it was needed."""
        if outcome.key in self._met:
            self._met[outcome.key] = outcome.status not in ("failed", "conflict")

    def was_needed(self, key: str) -> bool:
        """Tell whether *key* had its turn because something needs it."""
        return key in self._met

    def problem(self, offer: Offer) -> str:
        """Return why *offer* cannot be sent, "" if it can."""
        try:
            needed = _named(offer.record, self._field) if offer.is_news else []
        except (InvalidKeyError, InvalidRequestError) as error:
            return error.message
        for key in needed:
            if not self._met.get(key, True):
                return f"It needs {key!a:.200}, which is not at the destination."
        return ""

    def _needs_of(self, offer: Offer) -> set[str]:
        try:
            return {*_named(offer.record, self._field)} - {offer.key} if offer.is_news else set()
        except (InvalidKeyError, InvalidRequestError):
            return set()  # which is told when its turn comes


def _named(record: Record | None, field: str) -> list[str]:
    found = MISSING if record is None else lookup(record.metadata, field)
    if found is MISSING or found is None:
        return []
    names = found if isinstance(found, list) else [found]
    if len(names) > _MOST or not all(isinstance(name, str) for name in names):
        raise InvalidRequestError(f"{field!a:.100} does not name keys, but {found!r:.100}.")
    return [check_key(name) for name in names]
