"""Tells listeners what happened: :class:`Event`, the base of all events, and :class:`EventHub`.

No lock is taken anywhere: every change of shared state is one atomic operation on a dict or a
list, and an emit works on an immutable snapshot. So nothing that a listener, a filter or the
garbage collector does in the middle of it can deadlock.
"""
# ruff: noqa: A002, BLE001 - "filter" is the name users know; whatever their code raises is reported

from __future__ import annotations

import itertools
import logging
import reprlib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any, TypeAlias, TypeVar

_logger = logging.getLogger("kvstore.events")
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Event:
    """Something that happened. An event equals only itself, however alike two of them are."""

    #: Who tells, mostly a store.
    source: Any = field(default=None, repr=False)
    #: When it was made, in seconds since the epoch.
    time: float = field(default_factory=time.time, kw_only=True)
    _handled: bool = field(default=False, init=False, repr=False)

    @property
    def handled(self) -> bool:
        """Whether a listener has called :meth:`mark_as_handled`."""
        return self._handled

    def mark_as_handled(self) -> None:
        """Keep the event from all later listeners. What it tells of has happened all the same."""
        object.__setattr__(self, "_handled", True)

    def __repr__(self) -> str:
        # The source by its class alone: the repr of a large one has no place in a log line.
        source = "None" if self.source is None else f"<{type(self.source).__qualname__}>"
        shown = [f"{f.name}={_short.repr(getattr(self, f.name))}" for f in fields(self) if f.repr]
        handled = ["handled=True"] if self._handled else []
        return f"{type(self).__qualname__}({', '.join([f'source={source}', *shown, *handled])})"


E = TypeVar("E", bound=Event)
Listener: TypeAlias = Callable[[E], object]
#: A filter: attribute paths with the values they must have, or a question about the event.
Match: TypeAlias = Mapping[str, Any] | Callable[[E], bool] | None
#: Is given the event, the listener, and what the listener or its filter raised.
ErrorHook: TypeAlias = Callable[[Event, Callable[..., object], Exception], object]
_Call: TypeAlias = Callable[..., object]
#: Gives the object of a method, or None if it is gone; None itself for what is no method.
_Owner: TypeAlias = Callable[[], object] | None


def log_error(event: Event, listener: Callable[..., object], error: Exception) -> None:
    """Log what a listener or its filter raised, with the traceback, to ``kvstore.events``."""
    # Not the repr of the listener: that of a method shows its object, however large.
    name = getattr(listener, "__qualname__", type(listener).__qualname__)
    _logger.error("The listener %s failed on %r.", name, event, exc_info=error)


class EventHub:
    """Passes each event to the listeners connected to its class or to a base class of it.

    Listeners are called in the thread that emits: higher priority first, then in order of
    connection, whichever class they are connected to. What one of them or its filter raises goes
    to *on_error* and stops nobody else; only what is no ``Exception``, as ``KeyboardInterrupt``,
    passes through. A mapping filter that does not match costs nothing, however many there are;
    but the first emit after any change takes time proportional to the number of listeners.

    Thread-safe; listeners may emit, connect and disconnect. A change counts for every emit that
    begins after it. An emit under way goes on with the listeners it found: **a listener may still
    be called after it was disconnected**, by emits that had begun; one whose object is gone is not.
    """

    def __init__(self, on_error: ErrorHook = log_error) -> None:
        self._on_error = on_error
        self._tables: dict[type[Event], dict[tuple[object, ...], _Connection]] = {}
        self._disabled: dict[type[Event], list[None]] = {}
        self._count = itertools.count()
        # Replaced, never cleared, and only after the change it makes obsolete: a thread still
        # building a snapshot of the old state puts it into the dict that was thrown away.
        self._snapshots: dict[type[Event], _Snapshot] = {}

    def connect(
        self, event_type: type[E], listener: Listener[E], filter: Match[E] = None, priority: int = 0
    ) -> None:
        """Call ``listener(event)`` for every event of this class and its subclasses.

        A listener already connected to this very class is replaced, its place in the order too.

        Args:
            event_type: :class:`Event` or a subclass.
            listener: a bound method of a Python object is held weakly and forgotten with its
                object; methods of equal objects are different listeners. All else is held
                strongly: functions, lambdas, ``list.append``.
            filter: a mapping of attribute paths (``"key"``, ``"source.name"``) to values which
                must all be equal (``==``), or a callable that is given the event. A missing
                attribute is no match; nor is anything that raises, which is reported unless the
                rest rules the event out. Attributes may be read before any listener is called;
                values that can be hashed and have other hashes count as unequal. Copied, and
                held strongly but for the listener's own object.
            priority: higher ones are called earlier.

        Raises:
            TypeError: an argument has another type, or a method's object allows no weak reference.
            ValueError: a key of the mapping is no attribute path.
        """
        _check_event_type(event_type)
        if not callable(listener):
            raise TypeError(f"A listener must be callable, not {_short.repr(listener)}.")
        if not isinstance(priority, int):
            raise TypeError(f"A priority must be an int, not {_short.repr(priority)}.")
        key = _identity(listener)
        hub = weakref.ref(self)

        def forget(_: object) -> None:
            if (alive := hub()) is not None:
                alive._remove(event_type, key)

        order = (-priority, next(self._count))
        connection = _Connection.of(listener, {} if filter is None else filter, order, forget)
        self._tables.setdefault(event_type, {})[key] = connection
        self._snapshots = {}

    def disconnect(self, event_type: type[E], listener: Listener[E]) -> None:
        """Undo :meth:`connect`. Emits that have begun may still call the listener.

        Raises:
            KeyError: the listener is not connected to this very class.
        """
        _check_event_type(event_type)
        if self._remove(event_type, _identity(listener)) is None:
            raise KeyError(f"{_short.repr(listener)} is not connected to {event_type.__name__}.")

    def emit(self, event: Event) -> None:
        """Call the listeners for this event, unless it is marked as handled already.

        Raises:
            TypeError: *event* is no :class:`Event`.
        """
        snapshots = self._snapshots
        snapshot = snapshots.get(type(event)) or self._build(type(event), snapshots)
        for connection in snapshot.select(event) if snapshot.groups else snapshot.always:
            if event._handled:
                break
            try:
                connection.call(event)
            except Exception as error:
                self._report(event, connection, error)

    def has_listeners(self, event_type: type[Event]) -> bool:
        """Whether an event of exactly this class may reach anyone, filters apart. Fast."""
        snapshots = self._snapshots
        return (snapshots.get(event_type) or self._build(event_type, snapshots)) is not _SILENCE

    def disable(self, event_type: type[Event]) -> None:
        """Keep events of this class and its subclasses back, until as many :meth:`enable`."""
        _check_event_type(event_type)
        self._disabled.setdefault(event_type, []).append(None)
        self._snapshots = {}

    def enable(self, event_type: type[Event]) -> None:
        """Undo one :meth:`disable` of this very class.

        Raises:
            RuntimeError: the class is not disabled.
        """
        _check_event_type(event_type)
        try:
            self._disabled.get(event_type, []).pop()
        except IndexError:
            raise RuntimeError(f"{event_type.__qualname__} is not disabled.") from None
        self._snapshots = {}

    @contextmanager
    def disabled(self, event_type: type[Event]) -> Iterator[None]:
        """Disable the class, for all threads, during a ``with`` statement."""
        self.disable(event_type)
        try:
            yield
        finally:
            self.enable(event_type)

    @contextmanager
    def connected_to(
        self, event_type: type[E], listener: Listener[E], filter: Match[E] = None, priority: int = 0
    ) -> Iterator[None]:
        """Connect during a ``with`` statement, as tests want it; see :meth:`connect`."""
        self.connect(event_type, listener, filter, priority)
        try:
            yield
        finally:
            with suppress(KeyError):  # it may have been disconnected in between
                self.disconnect(event_type, listener)

    def _remove(self, event_type: type[Event], key: tuple[object, ...]) -> _Connection | None:
        removed = self._tables.get(event_type, {}).pop(key, None)
        self._snapshots = {}
        return removed

    def _build(self, event_type: type[Event], keep: dict[type[Event], _Snapshot]) -> _Snapshot:
        _check_event_type(event_type)
        bases = event_type.__mro__
        silent = any(self._disabled.get(base) for base in bases)
        # list() is atomic; a loop over the values would break if one came or went meanwhile.
        found = [list(self._tables.get(base, {}).values()) for base in bases if not silent]
        snapshot = keep[event_type] = _Snapshot.of(sorted(itertools.chain(*found), key=_by_order))
        return snapshot

    def _report(self, event: Event, connection: _Connection, error: Exception) -> None:
        try:
            self._on_error(event, connection.listener(), error)
        except Exception:
            _logger.exception("The on_error hook failed on %r, given %r.", event, error)


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    """One listener with its filter, prepared for calling."""

    order: tuple[int, int]
    function: _Call
    owner: _Owner
    #: The filter, if a lookup of attribute values decides on it. ``call`` takes it as decided.
    indexed: tuple[tuple[str, Any], ...]
    call: _Call

    @classmethod
    def of(cls, listener: _Call, wanted: Any, order: tuple[int, int], forget: _Call) -> _Connection:
        function, owner = listener, None
        if type(listener) is MethodType:
            function, owner = listener.__func__, weakref.ref(listener.__self__, forget)
        plain = cls(order, function, owner, (), _bound(function, owner))
        if isinstance(wanted, Mapping):
            pairs = _pairs(wanted, owner)
            if all(_can_index(value) for _, value in pairs):
                return replace(plain, indexed=pairs)
            return plain.only_if(_equal(pairs, owner))
        if not callable(wanted):
            raise TypeError(f"A filter is a mapping or a callable, not {_short.repr(wanted)}.")
        # Held strongly, a method of the listener's own object would keep that alive.
        own = owner and type(wanted) is MethodType and wanted.__self__ is owner()
        return plain.only_if(_bound(wanted.__func__, owner) if own else wanted)

    def only_if(self, check: _Call) -> _Connection:
        function = self.function

        def call(*args: Any) -> object:
            return function(*args) if check(args[-1]) else None

        return replace(self, indexed=(), call=_bound(call, self.owner))

    def unindexed(self) -> _Connection:
        """The same, but with ``call`` deciding on the filter."""
        return self.only_if(_equal(self.indexed, self.owner))

    def listener(self) -> _Call:
        alive = self.owner and self.owner()
        return self.function if alive is None else MethodType(self.function, alive)


_by_order = attrgetter("order")
#: Stands in filters for the object whose method the listener is, which is not to be kept alive.
_MINE = object()


class _Group:
    """The connections whose filters name the same attributes, found by the values of these."""

    __slots__ = ("index", "read", "unindexed")

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.read: _Call = attrgetter(*paths)  # gives a tuple if there are several
        self.index: dict[Any, list[_Connection]] = {}
        self.unindexed: list[_Connection] = []

    def add(self, connection: _Connection) -> None:
        values = tuple(value for _, value in connection.indexed)
        self.index.setdefault(values[0] if len(values) == 1 else values, []).append(connection)

    def find(self, event: Event) -> Sequence[_Connection]:
        """The connections that an event matches, as far as the index can tell."""
        try:
            values = self.read(event)
        except AttributeError:
            return ()
        except Exception:
            values = []  # as little to be looked up as what is unhashable
        try:
            return self.index.get(values, ())
        except Exception:
            # Each connection decides at its turn; what raises then is its error and reported.
            if not self.unindexed:
                members = sorted(itertools.chain(*self.index.values()), key=_by_order)
                self.unindexed = [connection.unindexed() for connection in members]
            return self.unindexed


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """Who is to hear of the events of one class, in order."""

    always: Sequence[_Connection] = ()  #: Those that no index can leave out.
    groups: Sequence[_Group] = ()

    @classmethod
    def of(cls, connections: list[_Connection]) -> _Snapshot:
        always = []
        groups: dict[tuple[str, ...], _Group] = {}
        for connection in connections:
            if not connection.indexed:
                always.append(connection)
                continue
            paths = tuple(path for path, _ in connection.indexed)
            group = groups.get(paths) or groups.setdefault(paths, _Group(paths))
            try:
                group.add(connection)
            except Exception:  # comparing two values of one hash raised
                always.append(connection.unindexed())
        return cls(always, list(groups.values())) if connections else _SILENCE

    def select(self, event: Event) -> Sequence[_Connection]:
        hits = [hit for group in self.groups if (hit := group.find(event))]
        if not hits:
            return self.always
        if len(hits) == 1 and not self.always:
            return hits[0]
        return sorted(itertools.chain(self.always, *hits), key=_by_order)


_SILENCE = _Snapshot()


def _bound(function: _Call, owner: _Owner) -> _Call:
    if owner is None:
        return function

    def call(event: Any) -> object:
        return None if (alive := owner()) is None else function(alive, event)

    return call


def _pairs(wanted: Mapping[Any, Any], owner: _Owner) -> tuple[tuple[str, Any], ...]:
    for path in wanted:
        if not (isinstance(path, str) and all(path.split("."))):
            raise ValueError(f"A filter has attribute paths as keys, not {_short.repr(path)}.")
    mine = object() if owner is None else owner()
    return tuple((path, _MINE if value is mine else value) for path, value in wanted.items())


def _equal(pairs: tuple[tuple[str, Any], ...], owner: _Owner) -> _Call:
    readers = [(attrgetter(path), value) for path, value in pairs]

    def check(event: Any) -> bool:
        for read, value in readers:
            try:
                found = read(event)
            except AttributeError:
                return False
            equal = found == (owner() if owner and value is _MINE else value)
            if not equal:
                return False
        return True

    return check


def _can_index(value: Any) -> bool:
    try:
        hash(value)
        return value is not _MINE and bool(value == value)  # a dict would find NaN, == does not
    except Exception:
        return False


def _identity(listener: _Call) -> tuple[object, ...]:
    """What tells listeners apart; never ``==`` or ``hash`` of a user's object."""
    if type(listener) is MethodType:
        return id(listener.__self__), id(listener.__func__)
    if type(listener) is BuiltinMethodType or type(listener) is MethodWrapperType:
        return id(listener.__self__), listener.__name__  # each access makes a new method object
    return (id(listener),)


def _check_event_type(event_type: object) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise TypeError(f"A subclass of Event is needed, not {_short.repr(event_type)}.")
