"""What handlers share: the store, its abilities, the limits and the threads.

Here is also everything that the server asks of a store beyond its public methods, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kvstore.authorizing import AuthorizingStore
from kvstore.compose.authorized import AuthorizedStore
from kvstore.errors import KeyNotFoundError, UnsupportedOperationError
from kvstore.history import check_version
from kvstore.query import Query
from kvstore.server.access.callers import Caller
from kvstore.server.feed import Feed
from kvstore.server.limits import Limits, Reads
from kvstore.server.paths import Paths
from kvstore.server.resumable.holding import Holds
from kvstore.server.resumable.partials import Partials
from kvstore.server.workers import Workers
from kvstore.store import ReadOnlyStore, Store
from kvstore.values import PUBLIC, Record, Value
from kvstore.writes import Change, Condition, Written


@dataclass(frozen=True, slots=True)
class Site:
    """One store on the wire, as one caller sees it.

    Its methods block, and are called in worker threads.
    """

    #: The store; where callers are told apart, what this one may see and do of it.
    store: ReadOnlyStore
    limits: Limits
    workers: Workers
    paths: Paths
    feed: Feed
    partials: Partials
    holds: Holds
    #: What the store said of itself when the server was made.
    info: dict[str, Any]
    #: Whether data are checked while they are sent whole, see `Reads`.
    reads: Reads = "checked"
    #: Who asks; None where everybody is the store's own user.
    caller: Caller | None = None

    @property
    def is_writable(self) -> bool:
        """Whether the store takes writes."""
        return isinstance(self.store, Store) and not self.info.get("readonly", False)

    @property
    def is_authorizing(self) -> bool:
        """Whether the store has permissions."""
        return isinstance(self.store, AuthorizingStore) and bool(self.info.get("authorizing"))

    @property
    def writer(self) -> Store:
        """The store, to write to it.

        Raises:
            UnsupportedOperationError: it can only be read.
        """
        if not isinstance(self.store, Store) or not self.is_writable:
            raise UnsupportedOperationError("This store can only be read.")
        return self.store

    @property
    def authorizer(self) -> AuthorizingStore:
        """The store, to read and change permissions.

        Raises:
            UnsupportedOperationError: it has none.
        """
        if not isinstance(self.store, AuthorizingStore) or not self.is_authorizing:
            raise UnsupportedOperationError("This store has no permissions.")
        return self.store

    def user_tag(self) -> str:
        """The tag of whoever uses the store through this server."""
        if self.caller is not None:
            return self.caller.tag
        return self.store.user_tag() if isinstance(self.store, AuthorizingStore) else PUBLIC

    def record(self, key: str) -> Record:
        """The facts about a key.

        Raises:
            KeyNotFoundError: no such key.
        """
        return self.store.record(key)

    def find(self, key: str) -> Record | None:
        """The facts about a key, None if there is no such key."""
        try:
            return self.store.record(key)
        except KeyNotFoundError:
            return None

    def version(self, key: str, version: str) -> Value:
        """A key as it was at a revision.

        Raises:
            KeyNotFoundError: that is not kept.
            UnsupportedOperationError: the store keeps none.
        """
        if not self.info.get("versions"):
            raise UnsupportedOperationError("This store keeps no versions.")
        return self.store.get(key, version=version)

    # -- what the public methods cannot do --------------------------------------------------

    @property
    def stamp(self) -> Callable[[], object]:
        """What tells one state of the store from another, without waiting; or None."""
        return self.store._stamp

    def demand_change(self, key: str, change: Change) -> None:
        """Refuse a change before its data come, if the caller may not make it as things are now.

        Raises:
            AuthorizationError, ConflictError: as :meth:`Store.write` would.
        """
        if isinstance(self.store, AuthorizedStore):
            self.store._allowed(key, change, self.store._known(key))

    def restore(self, key: str, version: str, condition: Condition) -> Written:
        """Set a key back; not by ``restore``, which tells less and knows ``if_match`` alone."""
        return self.writer._set_back(self.writer._check(key), check_version(version), condition)

    def records(self, query: Query) -> Iterator[Record]:
        """What a query finds; not by ``find``, as it copies what is only read here."""
        return self.store._query(query)

    def keys(self, query: Query) -> Iterator[Record]:
        """As :meth:`records`, of which only the keys and the place in the order are needed."""
        return self.store._query_keys(query)

    def count(self, query: Query) -> int:
        """How many keys a query finds; ``count`` cannot name fields such as ``prefix``."""
        return self.store._count(query)
