"""What is done at the destination: small things together, large data each for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from kvstore.authorizing import AuthorizingStore
from kvstore.errors import ConflictError, KeyNotFoundError, StoreError
from kvstore.parallel import Crew, in_order
from kvstore.replication.deciding import Step
from kvstore.replication.reading import SMALL, Load, Reader
from kvstore.replication.records import known_of
from kvstore.replication.report import Outcome, Status
from kvstore.replication.stamps import stamps_of
from kvstore.replication.state import Entry, State
from kvstore.store import Store
from kvstore.values import ProgressCallback, Record
from kvstore.writes import Written

#: What one group has at most: a transaction keeps others from writing while it lasts.
_GROUP = 250
_GROUP_BYTES = 4 << 20
#: Bytes after which what was done is remembered.
_SAVED_AFTER = 32 << 20

Transfer: TypeAlias = Callable[[str], ProgressCallback]


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done."""

    step: Step
    outcome: Outcome
    #: What is known of the key now; None for nothing.
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that was not."""

    step: Step
    error: StoreError | OSError


@dataclass(frozen=True, slots=True)
class Refused:
    """A step that nobody may do before somebody has decided."""

    step: Step
    outcome: Outcome


Result: TypeAlias = Done | Failed | Refused


class Sender:
    """Does the steps, and remembers those that were done.

    Args:
        destination: where to.
        state: what is remembered, which may be in the same store.
        reader: reads what is sent.
        crew: the threads that read, and that send what is large.
        transfer: returns the progress function for large data of a key.
    """

    def __init__(
        self,
        destination: Store,
        state: State,
        reader: Reader,
        crew: Crew,
        transfer: Transfer | None,
    ) -> None:
        self._destination = destination
        self._state = state
        self._reader = reader
        self._crew = crew
        self._transfer = transfer
        info = destination.info()
        self._is_transactional = bool(info["transactions"]) and state.store is destination
        self._is_atomic = bool(info["atomic_set"])
        self._stamp = stamps_of(destination)

    def do(self, steps: Sequence[Step]) -> Iterator[Result]:
        """Yield what came of each, not in their order; what was done is remembered before."""
        clear: list[Step] = []
        for found in in_order(self._crew, self._looked_at, steps):
            if isinstance(found, Failed):
                yield found
            else:
                clear.append(found)
        # Only now is it known what is there, and so what it would be to have begun.
        self._begin(clear)
        group: list[Load] = []
        size = unsaved = 0
        for result in in_order(self._crew, self._started, clear, drop=_drop):
            if isinstance(result, Load):
                group.append(result)
                size += result.size
                if len(group) >= _GROUP or size >= _GROUP_BYTES:
                    yield from self._together(group)
                    group, size = [], 0
                continue
            if isinstance(result, Done):
                self._remember(result)
                unsaved += result.outcome.size
                if unsaved >= _SAVED_AFTER:
                    self._state.save()
                    unsaved = 0
            yield result
        if group:
            yield from self._together(group)
        self._state.save()

    def _begin(self, steps: Sequence[Step]) -> None:
        """Remember what is about to be sent, unless it will be in one transaction with its entry.

        Who is killed between the two would take what he sent for that of somebody else.
        """
        for step in steps:
            record = step.offer.record
            if record is None or step.action not in ("send", "describe"):
                continue
            if self._is_transactional and step.action == "send" and 0 <= record.size <= SMALL:
                continue
            known = step.offer.known or Entry(record.key, "", None)
            self._state.put(replace(known, there=step.here, begun=record.digest or ""))
        self._state.save()

    def _started(self, step: Step) -> Load | Result:
        """Do what is done alone, or load what is sent with others."""
        try:
            if step.action == "conflict":
                outcome = Outcome(step.offer.key, "conflict", 0, step.here, step.reason)
                return Refused(step, outcome)
            if step.action == "forget":
                return Done(step, Outcome(step.offer.key, "kept", reason=step.reason), None)
            if step.action == "delete":
                return self._deleted(step)
            if step.action == "note":
                return self._noted(step)
            load = self._reader.load(step)
            if load.value is None:
                return load
            with closing(load):
                return self._sent(load)
        except (StoreError, OSError) as error:
            return Failed(step, error)

    def _looked_at(self, step: Step) -> Step | Failed:
        try:
            return self._resolved(step) if step.is_doubtful else step
        except (StoreError, OSError) as error:
            return Failed(step, error)

    def _resolved(self, step: Step) -> Step:
        """Look closer at what may be equal, or what may be the source's own although nobody knew.

        Raises:
            StoreError: it cannot be read; KeyNotFoundError where one of them was deleted meanwhile.
        """
        known, key = step.offer.known, step.offer.key
        if step.offer.record is not None and self._reader.is_equal(step, self._destination):
            return replace(step, action="note", is_equal=True, reason="")
        if known is None or known.begun is None:
            return step
        there = known_of(self._destination, key)
        # Where no digests are kept, nobody can say who it was.
        if there.digest is None or there.digest == known.begun:
            return replace(step, action=step.wanted, here=self._stamp(there), reason="")
        return step

    def _together(self, loads: list[Load]) -> Iterator[Result]:
        results: Iterable[Result]
        try:
            results = self._in_transaction(loads)
        except (StoreError, OSError):
            # One of them, which is not told in all cases: each for itself.
            self._state.reload()
            results = self._each(loads)
        yield from results

    def _each(self, loads: list[Load]) -> Iterator[Result]:
        for result in in_order(self._crew, self._alone, loads):
            if isinstance(result, Done):
                self._remember(result)
            yield result

    def _in_transaction(self, loads: list[Load]) -> list[Done]:
        """Write all or nothing, with what is remembered of it where there are transactions."""
        store = self._destination
        results: list[Done] = []
        with store.transaction("sync"):
            pairs = [(load.step.offer.key, load.change) for load in loads]
            checked = ((key, change.checked(store._fits_schema)) for key, change in pairs)
            writes = store._write_each(checked)
            for load, (key, change, written) in zip(loads, writes, strict=True):
                store._announce(key, change, written)
                done = self._result(load, written)
                results.append(done)
            if self._is_transactional:
                self._save(results)
        if not self._is_transactional:
            self._save(results)
        return results

    def _save(self, results: Iterable[Done]) -> None:
        for done in results:
            self._remember(done)
        self._state.save()

    def _alone(self, load: Load) -> Result:
        try:
            return self._sent(load)
        except (StoreError, OSError) as error:
            return Failed(load.step, error)

    def _sent(self, load: Load) -> Done:
        key = load.step.offer.key
        progress = None
        if load.value is not None and self._transfer is not None:
            progress = self._transfer(key)
        written = self._destination.write(key, load.change, progress=progress)
        return self._result(load, written)

    def _result(self, load: Load, written: Written) -> Done:
        step = load.step
        status: Status = "sent" if step.action == "send" else "updated"
        revision = written.revision
        if step.action == "describe":
            revision = self._permitted(step, revision) or revision
        return self._done(step, status, revision, load.size)

    def _noted(self, step: Step) -> Done:
        """Nothing but permissions may have to travel."""
        if step.is_equal and step.offer.is_news:
            revision = self._permitted(step, step.here)
            if revision is not None:
                return self._done(step, "updated", revision, 0)
        status: Status = "same" if step.is_equal else "kept"
        outcome = Outcome(step.offer.key, status, 0, step.here, step.reason)
        return Done(step, outcome, step.entry)

    def _deleted(self, step: Step) -> Done:
        # A listing may have been cut short without a sign of it.
        if not self._reader.is_gone(step):
            raise ConflictError(f"The source has {step.offer.key!a} still, or again.")
        with suppress(KeyNotFoundError):  # somebody else was faster
            self._destination.delete(step.offer.key, if_match=self._reader.condition(step).if_match)
        return Done(step, Outcome(step.offer.key, "deleted"), None)

    def _permitted(self, step: Step, revision: str | None) -> str | None:
        """Send the permissions, if they differ; return the new revision then."""
        record, store = step.offer.record, self._destination
        if record is None or not isinstance(store, AuthorizingStore):
            return None
        wanted = self._reader.permissions(record)
        if wanted is None or wanted == store.get_permissions(record.key):
            return None
        condition = revision if self._reader.conditional else None
        new = store.set_permissions(record.key, wanted, if_match=condition)
        return new or store.record(record.key).revision

    def _done(self, step: Step, status: Status, revision: str | None, size: int) -> Done:
        record: Record | None = step.offer.record
        assert record is not None  # noqa: S101 - for the type checker
        there = revision if self._is_atomic else None
        if there is None:
            there = self._stamp(known_of(self._destination, record.key))
        entry = Entry(record.key, step.offer.stamp, there)
        return Done(step, Outcome(record.key, status, size, revision, step.reason), entry)

    def _remember(self, done: Done) -> None:
        if done.entry is None:
            self._state.forget(done.step.offer.key)
        else:
            self._state.put(done.entry)


def _drop(result: Load | Result) -> None:
    if isinstance(result, Load):
        result.close()
