"""What is to be done about one record: a pure function of what both sides have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from kvstore.profiles.having import Finding
from kvstore.replication.offers import Offer
from kvstore.replication.rules import Rules
from kvstore.replication.state import Entry

#: ``pass``: nothing; ``note``: both sides are equal, or meant to differ, which is remembered;
#: ``forget``: there is nothing to be known any more; ``send`` all; ``describe``: send the metadata;
#: ``delete``; ``conflict``.
Action: TypeAlias = Literal["pass", "note", "forget", "send", "describe", "delete", "conflict"]

_THEIRS = "That of the destination stays, as it was decided."


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done."""

    offer: Offer
    action: Action
    #: What the destination has now: its stamp, which is the condition of what is done.
    here: str | None
    #: Why there is a conflict; or why nothing is done although the two sides differ.
    reason: str = ""
    #: Whether the data and metadata of both sides are equal.
    is_equal: bool = False
    #: Whether the two have to be looked at more closely before it is done: where nobody recorded
    #: digests they may be equal, and after a kill what is there may be what was sent.
    is_doubtful: bool = False
    #: What is to be done if it is.
    wanted: Action = "pass"

    @property
    def entry(self) -> Entry | None:
        """What is to be remembered of a ``note``."""
        offer = self.offer
        if offer.record is None:
            return None
        return Entry(offer.key, offer.stamp, self.here, is_theirs=not self.is_equal)


def decide(offer: Offer, finding: Finding, rules: Rules, *, digests: bool) -> Step:
    """Return what is to be done about *offer*, given what the destination has.

    What is there is the source's own where it is as it was left. *digests*: the destination has
    them.
    """
    step = _decided(offer, finding, rules)
    known, record = offer.known, offer.record
    if step.action == "pass" or step.is_equal or step.here is None:
        return step
    if known is not None and step.here == known.there:
        return step
    is_begun = known is not None and known.begun is not None
    is_unclear = record is not None and (record.digest is None or not digests)
    if not is_begun and not is_unclear:
        return step
    wanted: Action = "send"
    if record is None:
        wanted = "delete"
    elif finding.status == "need_metadata":
        wanted = "describe"
    return replace(step, is_doubtful=True, wanted=wanted)


def _decided(offer: Offer, finding: Finding, rules: Rules) -> Step:
    known, here = offer.known, finding.revision
    if offer.record is None:
        return _gone(offer, here, rules)
    is_theirs = known is not None and known.is_theirs
    is_untouched = not is_theirs and here == (None if known is None else known.there)
    if is_untouched and not offer.is_news:
        return Step(offer, "pass", here)
    if finding.status == "have":
        return Step(offer, "note", here, is_equal=True)
    if is_theirs and not offer.is_news and rules.on_conflict != "source":
        return Step(offer, "pass", here, _THEIRS)
    if is_untouched or rules.on_conflict == "source":
        action: Action = "describe" if finding.status == "need_metadata" else "send"
        return Step(offer, action, here)
    reason = _reason(offer, here)
    settled = rules.on_conflict == "destination"
    return Step(offer, "note" if settled else "conflict", here, reason)


def _gone(offer: Offer, here: str | None, rules: Rules) -> Step:
    known = offer.known
    if here is None or known is None:
        return Step(offer, "forget", here)
    if known.is_theirs:
        return Step(offer, "forget", here, _THEIRS)
    if rules.deletions == "keep":
        return Step(offer, "pass", here, "It is gone at the source.")
    if here == known.there or rules.on_conflict == "source":
        return Step(offer, "delete", here)
    reason = "It is gone at the source, and was changed at the destination."
    settled = rules.on_conflict == "destination"
    return Step(offer, "forget" if settled else "conflict", here, reason)


def _reason(offer: Offer, here: str | None) -> str:
    if offer.known is None:
        return "The destination has another one, which did not come from this source."
    what = "changed" if here is not None else "deleted"
    if offer.is_news:
        return f"It was changed at the source, and {what} at the destination."
    return f"It was {what} at the destination."
