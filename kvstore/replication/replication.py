"""One store made to follow another: a pass over all records, and single keys afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Self

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    InvalidRequestError,
    NotConnectedError,
    StorageFullError,
    StoreError,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.parallel import Crew
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.deciding import Step, decide
from kvstore.replication.names import name_of
from kvstore.replication.needs import Answer, Needs
from kvstore.replication.offers import Offer, all_offers, chunks, offers_of, really_gone
from kvstore.replication.reading import Reader
from kvstore.replication.report import Counts, Outcome, Status, SyncReport
from kvstore.replication.requiring import Requirements
from kvstore.replication.rules import RESERVED, Rules
from kvstore.replication.sending import Failed, Sender, Transfer
from kvstore.replication.state import State
from kvstore.store import Store

#: Calls that are made at a time where one takes longer than a few milliseconds.
_WORKERS = 16
#: Records in a row of which each broke the conversation, after which there is none any more.
_IN_A_ROW = 8
#: Statuses of a server that is not there for anything; None: no answer.
_SILENCE = (None, 429, 502, 503, 504)
#: What trying again does not help against.
_LASTING = (ValueError, AuthorizationError, UnsupportedOperationError)
_EMPTY = "The source has no keys at all. If that is right, say that it wins."

Tell = Callable[[Outcome], object]
Ask = Callable[[list[Offer]], list[Answer]]


class Replication:
    """Makes *destination* follow *source*. Not thread-safe; a context manager, which ends threads.

    Args:
        source, destination: two stores, connected.
        rules: what travels, and who wins.
        tell: called with what became of each record, in this thread.
        transfer: called with the key of data that begin to travel; returns their ``progress=``.
        memory: the store that remembers what was in step, if not the destination.

    Raises:
        InvalidRequestError: the destination cannot be written, or is the source.
        StoreError: what is known of the source cannot be read at the destination.
    """

    def __init__(
        self,
        source: ReadOnlyStore,
        destination: Store,
        rules: Rules,
        *,
        tell: Tell | None = None,
        transfer: Transfer | None = None,
        memory: Store | None = None,
    ) -> None:
        info = destination.info()
        if not isinstance(destination, Store) or info["readonly"]:
            raise InvalidRequestError(f"{destination!r:.100} is read-only.")
        if source is destination:
            raise InvalidRequestError(f"{source!r:.100} cannot follow itself.")
        self._source = source
        self._rules = rules
        self._tell = tell
        self._crew = Crew(_WORKERS)
        self._needs = Needs(destination, self._crew)
        #: What is remembered of the source.
        name = rules.name or name_of(source, destination, memory)
        self.state = State(memory or destination, name)
        reader = Reader(source, rules, conditional=bool(info["conditional"] and info["atomic_set"]))
        self._sender = Sender(destination, self.state, reader, self._crew, transfer)
        self._requirements: Requirements | None = None
        if rules.requires is not None:
            self._requirements = Requirements(rules.requires, self._named, self._needs.is_there)
        self._has_digests = bool(info["digests"])
        self._counts = Counts()
        self._in_a_row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._crew.close()

    @property
    def report(self) -> SyncReport:
        """What was done until now."""
        return self._counts.report()

    def run(self) -> None:
        """Look at all records once, and do what is to be done.

        Raises:
            StoreError: that cannot be looked at, or one of the stores is out of reach. What was
                done is remembered, so that the next run goes on.
        """
        self._begin()
        answer = self._needs.in_pass(self._rules.prefix)
        offers = all_offers(self._source, self.state, self._rules, self._crew)
        first = next(offers, None)
        if first is None:
            return
        offers = chain([first], offers)
        if first.record is None and self._rules.on_conflict != "source" and self._is_empty():
            for offer in offers:
                self._told(Outcome(offer.key, "conflict", reason=_EMPTY))
            return
        for chunk in chunks(offers):
            self._carry(chunk, answer)

    def _is_empty(self) -> bool:
        """Tell whether the source has no key at all: it may be the wrong folder."""
        return all(key.startswith(RESERVED) for key in self._source.query_keys())

    def run_keys(self, keys: Iterable[str]) -> None:
        """Look at these keys only, as :meth:`run` does at all."""
        self._begin()
        for chunk in chunks(self._offers_of(sorted(set(keys)), self._rules)):
            self._carry(chunk, self._needs.of)

    def _begin(self) -> None:
        if self._requirements is not None:
            self._requirements.begin()

    def _named(self, keys: list[str]) -> Iterator[Offer | None]:
        """Find what others need, whatever the filter says."""
        rules = replace(self._rules, where=None, prefix="")
        offers = self._offers_of(keys, rules)
        found = {offer.key: offer for offer in offers if offer.record or offer.error}
        return map(found.get, keys)

    def _offers_of(self, keys: list[str], rules: Rules) -> Iterator[Offer]:
        return offers_of(self._source, self.state, rules, keys, self._crew)

    def _carry(self, offers: list[Offer], answer: Ask) -> None:
        """Do what is to be done about these, and before it about what they need."""
        offers = self._without_hidden(offers)
        needed = self._requirements
        if needed is not None:
            for layer in needed.layers(offers):
                for chunk in chunks(layer):
                    self._try(self._ready(self._without_hidden(chunk), needed), self._needs.of)
            offers = [offer for offer in offers if not needed.was_needed(offer.key)]
            offers = self._ready(offers, needed)
        self._try(offers, answer)

    def _ready(self, offers: list[Offer], needed: Requirements) -> list[Offer]:
        """Leave out, and tell of, what needs something that is not there."""
        ready = []
        for offer in offers:
            problem = needed.problem(offer)
            if problem:
                self._told(Outcome(offer.key, "failed", reason=problem))
            else:
                ready.append(offer)
        return ready

    def _try(self, offers: list[Offer], answer: Ask) -> None:
        """Do what is to be done about these, in as many attempts as are allowed."""
        again = self._attempt(offers, answer, is_last=self._rules.attempts == 1)
        for attempt in range(2, self._rules.attempts + 1):
            if not again:
                return
            fresh = self._fresh(sorted(again))
            again = self._attempt(fresh, self._needs.of, is_last=attempt == self._rules.attempts)

    def _fresh(self, keys: list[str]) -> list[Offer]:
        """Look again at what could not be done."""
        needed = self._requirements
        first = [key for key in keys if needed is not None and needed.was_needed(key)]
        others = [key for key in keys if key not in first]
        found = [offer for offer in self._named(first) if offer is not None]
        return self._without_hidden([*found, *self._offers_of(others, self._rules)])

    def _attempt(self, offers: list[Offer], answer: Ask, *, is_last: bool) -> set[str]:
        """Try all of them once; return the keys of those that are to be tried again."""
        steps = self._settled(offers, answer(offers))
        again = set()
        for result in self._sender.do(steps):
            if not isinstance(result, Failed):
                self._in_a_row = 0
                self._told(result.outcome)
            elif is_last or isinstance(result.error, _LASTING):
                self._failed(result.step.offer.key, result.error)
            else:
                self._watch_out(result.error)
                again.add(result.step.offer.key)
        return again

    def _settled(self, offers: list[Offer], findings: list[Answer]) -> list[Step]:
        """Decide, tell of those that nothing is done about, and return the others."""
        steps = []
        for offer, finding in zip(offers, findings, strict=True):
            if isinstance(finding, StoreError):
                self._failed(offer.key, finding)
                continue
            step = decide(offer, finding, self._rules, digests=self._has_digests)
            if step.action == "pass":
                status: Status = "kept" if step.reason else "same"
                self._told(Outcome(offer.key, status, 0, step.here, step.reason))
            elif step.action == "forget" and not step.reason:
                self.state.forget(offer.key)  # it is gone on both sides
            else:
                steps.append(step)
        return steps

    def _without_hidden(self, offers: list[Offer]) -> list[Offer]:
        """Leave out what the filter did not find, though the source has it still, and failures."""
        for offer in offers:
            if offer.error is not None:
                self._failed(offer.key, offer.error)
        offers = [offer for offer in offers if offer.error is None]
        missing = [offer.key for offer in offers if offer.record is None]
        gone = really_gone(self._source, self._rules, missing)
        return [offer for offer in offers if offer.record is not None or offer.key in gone]

    def _failed(self, key: str, error: StoreError | OSError) -> None:
        self._watch_out(error)
        reason = error.message if isinstance(error, StoreError) else str(error)
        self._told(Outcome(key, "failed", reason=reason))

    def _watch_out(self, error: StoreError | OSError) -> None:
        """Raise *error* if it is none of the record: each of the others would take as long."""
        if isinstance(error, (AuthenticationError, NotConnectedError)):
            raise error
        is_silent = isinstance(error, TransportError) and error.status in _SILENCE
        is_lost = is_silent or isinstance(error, StorageFullError)
        self._in_a_row = self._in_a_row + 1 if is_lost else 0
        if self._in_a_row >= _IN_A_ROW:
            raise error

    def _told(self, outcome: Outcome) -> None:
        self._counts.add(outcome)
        if self._requirements is not None:
            self._requirements.note(outcome)
        if self._tell is not None:
            self._tell(outcome)
