"""A store's keys and data as a ``MutableMapping``, for code that wants one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

from kvstore.errors import InvalidKeyError, UnsupportedOperationError


class _Readable(Protocol):
    def to_bytes(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def query_keys(self) -> Iterable[str]: ...
    def count(self) -> int: ...


class StoreMapping(MutableMapping[str, bytes]):
    """View of a store: ``view[key]`` is its data, ``view[key] = b"..."`` keeps its metadata.

    What no key can be is simply not in it, as in a ``dict``; setting it is an ``InvalidKeyError``.
    Iteration is in the order of keys.
    """

    def __init__(self, store: _Readable) -> None:
        self._store: Any = store

    def __getitem__(self, key: str) -> bytes:
        try:
            data: bytes = self._store.to_bytes(key)
        except InvalidKeyError as error:
            raise KeyError(key) from error
        return data

    def __setitem__(self, key: str, data: bytes) -> None:
        self._writable("set_data")(key, data)

    def __delitem__(self, key: str) -> None:
        try:
            self._writable("delete")(key)
        except InvalidKeyError as error:
            raise KeyError(key) from error

    def __contains__(self, key: object) -> bool:
        try:
            return bool(self._store.exists(key))
        except InvalidKeyError:
            return False

    def clear(self) -> None:
        """Delete all keys, in one pass; the inherited way lists anew for each."""
        for key in self:
            with suppress(KeyError):  # somebody else was faster
                del self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.query_keys())

    def __len__(self) -> int:
        return int(self._store.count())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r})"

    def _writable(self, name: str) -> Any:
        method = getattr(self._store, name, None)
        if method is None:
            raise UnsupportedOperationError(f"{self._store!r} is read-only.")
        return method
