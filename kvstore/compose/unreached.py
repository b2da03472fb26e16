"""What stands for a store that is not to be reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject
from kvstore.errors import UnavailableError
from kvstore.store import Store
from kvstore.values import Permissions, Record, Value
from kvstore.writes import Change, Condition, Written


class Unreached(AuthorizingStore):
    """Fails whatever is asked, as a store does whose server is down.

    Args:
        store: the one that it stands for, which is left alone.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **AuthorizingStore.capabilities,
        "readonly": True,
        "authorizing": False,
    }

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._name = repr(store)

    def __repr__(self) -> str:
        return self._name

    def _connect(self, credentials: Any) -> None:
        pass  # they are for the store that this one stands for

    def user_tag(self) -> str:
        """Fail: that is not known."""
        raise self._error(None)

    def _get(self, key: str) -> Value:
        raise self._error(key)

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        raise self._error(None)

    def _write(self, key: str, change: Change) -> Written:
        raise self._error(key)

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        raise self._error(key)

    def _get_permissions(self, key: str) -> Permissions:
        raise self._error(key)

    def _error(self, key: str | None) -> UnavailableError:
        what = "This" if key is None else f"The key {key!a}"
        message = f"{what} is not kept here, and {self._name:.200} is not asked: offline."
        return UnavailableError(message, key=key)
