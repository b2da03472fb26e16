"""What stores tell their listeners, and :class:`Progress`, which reports a transfer.

::

    Event
    └── StoreEvent
        ├── StoreTransactionEvent
        │   ├── StoreTransactionStartEvent
        │   └── StoreTransactionEndEvent
        ├── StoreResynchronizedEvent
        ├── StoreKeyEvent
        │   └── StoreModificationEvent
        │       ├── StoreSetEvent
        │       │   └── StoreUpdateEvent        the key existed
        │       └── StoreDeleteEvent
        └── StoreProgressEvent
            ├── StoreProgressStartEvent
            ├── StoreProgressStepEvent
            └── StoreProgressEndEvent
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias

from kvstore.hub import Event, EventHub

_Action: TypeAlias = Literal["set", "update", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreEvent(Event):
    """Anything that a store tells. ``source`` is the store."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreTransactionEvent(StoreEvent):
    """An outermost ``transaction()`` begins or ends; those inside it tell nothing."""

    #: The text given to ``transaction(notes)``.
    notes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreTransactionStartEvent(StoreTransactionEvent):
    """A transaction has begun.

    From ``transaction()``, and from ``multiset``, ``multiset_data``, ``multiset_metadata`` and
    ``multiupdate_metadata``, which use one.
    """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreTransactionEndEvent(StoreTransactionEvent):
    """A transaction has ended. The events of its changes follow if it is done, else never.

    From the operations that emit :class:`StoreTransactionStartEvent`.
    """

    #: ``done``: committed. ``failed``: an exception left the block, or the commit failed.
    state: Literal["done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreResynchronizedEvent(StoreEvent):
    """Changes by others were missed, as the store has forgotten them: read again what matters.

    From ``watch()``, which goes on behind :attr:`sequence`.
    """

    #: Number of the last change that was told.
    since: int
    #: Number of the newest change; those between are told no more.
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreKeyEvent(StoreEvent):
    """Anything about one key."""

    key: str
    #: The whole metadata of the key after the operation; before it where the key is deleted.
    metadata: Mapping[str, Any]
    #: ``local``: done through this store object. ``remote``: by someone else, seen by ``watch()``.
    origin: Literal["local", "remote"] = "local"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreModificationEvent(StoreKeyEvent):
    """Data or metadata of one key have changed; in a transaction, after it was committed."""

    #: What was done, as a word; each subclass has its own.
    action: ClassVar[_Action]
    #: The revision that the operation made, where the store tells one.
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreSetEvent(StoreModificationEvent):
    """A key was made; the subclass :class:`StoreUpdateEvent`: an existing one was changed.

    From ``set``, ``set_data``, ``set_metadata``, ``from_bytes``, ``from_file``, ``multiset``,
    ``multiset_data`` and ``multiset_metadata``, once for each key.
    """

    action: ClassVar[_Action] = "set"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreUpdateEvent(StoreSetEvent):
    """Data or metadata of a key that existed were changed.

    From the operations that emit :class:`StoreSetEvent`, and from ``update_metadata`` and
    ``multiupdate_metadata``.
    """

    action: ClassVar[_Action] = "update"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreDeleteEvent(StoreModificationEvent):
    """A key was removed; ``metadata`` is the last it had. From ``delete``."""

    action: ClassVar[_Action] = "delete"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreProgressEvent(StoreEvent):
    """Data travel: a Start, any number of Steps, and an End with the same ``operation_id``.

    From ``set``, ``set_data``, ``from_bytes``, ``from_file`` and their ``multi`` forms, and from
    ``to_bytes`` and ``to_file``; not held back by transactions.
    """

    #: What the events of one transfer have in common, and nothing else has.
    operation_id: str
    key: str | None
    #: A text for people about what is being done; in the End event, how it ended.
    message: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreProgressStartEvent(StoreProgressEvent):
    """A transfer begins."""

    #: Bytes to be transferred, -1 if unknown.
    steps: int = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreProgressStepEvent(StoreProgressEvent):
    """A transfer has come further."""

    #: Bytes transferred since the start.
    step: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StoreProgressEndEvent(StoreProgressEvent):
    """A transfer has ended."""

    #: ``normal``; ``exception``: cut off by one, whose text ``message`` is. ``warning`` and
    #: ``error`` are for transfers that end without an exception, but not as they should.
    exit_state: Literal["normal", "warning", "error", "exception"]


class Progress:
    """Reports one transfer to listeners and to the caller's own function.

    A context manager. Events: StoreProgressStart on entering; StoreProgressStep from
    :meth:`step`; StoreProgressEnd on leaving. Whether anyone listens to these is asked once, on
    entering: who connects later does not hear of this transfer, and with neither listener nor
    function nothing is built or called. For one transfer in one thread.

    Args:
        hub: gets the events.
        source: the store.
        key: of the value that travels; None where there are several.
        message: a text for people about what is being done.
        total: bytes to be transferred, -1 if unknown.
        callback: called as ``callback(done, total)`` at each step. Unlike a listener's, an
            exception that it raises goes through, and so ends the operation.

    Raises:
        TypeError: *callback* cannot be called.
    """

    __slots__ = ("_callback", "_hub", "_id", "_key", "_message", "_source", "_total", "_watched")

    def __init__(
        self,
        hub: EventHub,
        source: Any,
        key: str | None,
        message: str,
        total: int = -1,
        callback: Callable[[int, int], object] | None = None,
    ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"progress must be callable as f(done, total), not {callback!r:.100}.")
        self._hub = hub
        self._source = source
        self._key = key
        self._message = message
        self._total = total
        self._callback = callback
        self._watched = False
        self._id = ""

    @property
    def active(self) -> bool:
        """Whether :meth:`step` has any effect, so that callers may leave out what leads to it."""
        return self._watched or self._callback is not None

    def __enter__(self) -> Self:
        heard = self._hub.has_listeners
        self._watched = (
            heard(StoreProgressStartEvent)
            or heard(StoreProgressStepEvent)
            or heard(StoreProgressEndEvent)
        )
        if self._watched:
            self._id = uuid.uuid4().hex
            self._emit(StoreProgressStartEvent, self._message, steps=self._total)
        return self

    def step(self, done: int) -> None:
        """Report that *done* bytes have been transferred since the start.

        Raises:
            Exception: whatever the callback raises.
        """
        if self._watched:
            self._emit(StoreProgressStepEvent, self._message, step=done)
        if self._callback is not None:
            self._callback(done, self._total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._watched:
            return
        self._watched = False
        if error is None:
            self._emit(StoreProgressEndEvent, self._message, exit_state="normal")
        else:
            text = str(error) or type(error).__name__
            self._emit(StoreProgressEndEvent, text, exit_state="exception")

    def _emit(self, event_type: type[StoreProgressEvent], message: str, **more: Any) -> None:
        event = event_type(
            source=self._source, operation_id=self._id, key=self._key, message=message, **more
        )
        self._hub.emit(event)
