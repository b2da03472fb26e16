"""The contract, its beginning: how a store is connected, and what it says of itself."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, Self

from kvstore.documents import copy_json
from kvstore.errors import InvalidRequestError, NotConnectedError
from kvstore.hub import EventHub
from kvstore.keys import check_key


class Lifecycle(ABC):  # noqa: B024 - the primitives come with reading and writing
    """What a store is before anything is read from it.

    Args:
        events: the hub that gets this store's events; one of its own by default.
    """

    #: What :meth:`info` says beside ``type``; classes override entries.
    capabilities: ClassVar[dict[str, Any]] = {
        "readonly": True,
        "authorizing": False,
        "transactions": False,
        "atomic_set": True,
        "conditional": True,
        "events": True,
        "digests": True,
        "changes": False,
        "versions": 0,
        "durability": "none",
        "queries": ["match", "where", "prefix", "glob", "order_by", "limit", "after"],
    }

    def __init__(self, *, events: EventHub | None = None) -> None:
        #: Where listeners connect; see :mod:`kvstore.events` for what is emitted.
        self.events = EventHub() if events is None else events
        self._connected = False

    def connect(self, credentials: Any = None) -> None:
        """Make the store ready for use. Connecting again takes the new credentials.

        Args:
            credentials: what the store's class says; None for none.

        Raises:
            AuthenticationError: the credentials do not hold.
        """
        self._connect(credentials)
        self._connected = True

    def disconnect(self) -> None:
        """Release what the store holds open. Idempotent; ``connect`` makes it usable again."""
        if self._connected:
            self._connected = False
            self._disconnect()

    def is_connected(self) -> bool:
        """Tell whether the store may be used."""
        return self._connected

    def __enter__(self) -> Self:
        if not self._connected:
            self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.disconnect()

    def info(self) -> dict[str, Any]:
        """Return what the store is and can do, so that nobody need guess from its class.

        ``type`` its class; ``readonly``; ``authorizing`` (has permissions); ``transactions`` (else
        ``transaction`` groups nothing); ``atomic_set`` (data and metadata change as one);
        ``conditional`` (``if_match``, ``if_none_match``); ``events``; ``digests``; ``changes`` (has
        a journal); ``versions`` (how many earlier ones of a key it keeps); ``durability`` of an
        acknowledged write (``none``, ``process-crash``, ``power-loss``); ``queries`` (the arguments
        of ``query`` it can answer).
        """
        return {"type": type(self).__name__, **copy_json(self.capabilities)}

    def _connect(self, credentials: Any) -> None:
        """Shortcut. Take credentials; a store that has no use for them refuses any."""
        if credentials is not None:
            raise InvalidRequestError(f"{type(self).__name__} takes no credentials.")

    def _disconnect(self) -> None:  # noqa: B027 - many stores hold nothing open
        """Shortcut. Release what is held open."""

    def _ready(self) -> None:
        if not self._connected:
            message = f"{type(self).__name__} is not connected: call connect(), or use `with`."
            raise NotConnectedError(message, store=repr(self))

    def _check(self, key: str) -> str:
        if not self._connected:
            self._ready()
        return check_key(key)
