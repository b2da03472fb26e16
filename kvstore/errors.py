"""Every error that a store raises, from one base, each also the builtin that callers expect.

::

    StoreError (Exception)
    ├── KeyNotFoundError (KeyError)             no such key, or it may not be seen
    ├── InvalidKeyError (ValueError)            the text is no key
    ├── InvalidMetadataError (ValueError)       metadata that breaks a rule; ``pointer`` says where
    ├── InvalidPermissionsError (ValueError)    permissions that break a rule
    ├── InvalidRequestError (ValueError)        any other argument that cannot be served
    ├── RangeError (ValueError)                 a byte range outside the data
    ├── TooLargeError (ValueError)              key, metadata or data over a limit
    ├── AuthorizationError (PermissionError)    may not do this
    │   └── AuthenticationError                 no or bad credentials
    ├── ConflictError                           a condition failed; nothing was changed
    ├── ChangesLostError                        changes asked for are no longer remembered
    ├── IntegrityError                          bytes and digest or length disagree
    ├── UnsupportedOperationError (NotImplementedError)
    ├── NotConnectedError (RuntimeError)        used before ``connect`` or after ``disconnect``
    ├── StorageFullError (OSError)              no room left; nothing was changed
    ├── StorageError (OSError)                  the medium failed: unreadable, read-only, damaged
    │   └── DamagedError                        the store's own files are not what it wrote
    └── TransportError (ConnectionError)        the conversation with a server broke
        └── UnavailableError                    busy or not there now; trying later may help
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StoreError(Exception):
    """Base of every error raised by a store.

    Errors pickle with all their attributes, so that they cross process borders.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        store: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        #: The sentence shown to people.
        self.message = message
        #: The key that the operation was about, if it was about one.
        self.key = key
        #: What names the store (its ``repr``), where known. Never holds a secret.
        self.store = store
        #: The HTTP status that told of the failure, where one did.
        self.status = status
        #: What the server calls the request that failed, where it said so; its log knows more.
        self.request_id = request_id

    # KeyError shows the repr of its argument and OSError its errno; ours show the sentence.
    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., StoreError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[StoreError], message: str, attributes: dict[str, Any]) -> StoreError:
    error = cls.__new__(cls)  # not by calling it: a subclass may take other arguments
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class KeyNotFoundError(StoreError, KeyError):
    """The key is not in the store, or the user may not see it."""


class InvalidKeyError(StoreError, ValueError):
    """The text cannot be a key; see :func:`kvstore.keys.check_key` for the rules."""


class InvalidMetadataError(StoreError, ValueError):
    """Metadata that is no JSON object of the allowed shape."""

    def __init__(self, message: str, *, pointer: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        #: JSON pointer (RFC 6901) to the value that breaks the rule; "" is the whole document.
        self.pointer = pointer


class InvalidPermissionsError(StoreError, ValueError):
    """Permissions that are no ``dict`` of ``str`` to ``set`` of ``str``, or that leave no owner."""


class InvalidRequestError(StoreError, ValueError):
    """An argument that no store could serve, such as an unknown filter operator."""


class RangeError(StoreError, ValueError):
    """A byte range that does not lie in the data (HTTP 416)."""

    def __init__(self, message: str, *, size: int | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        #: Size of the data in bytes, where known.
        self.size = size


class TooLargeError(StoreError, ValueError):
    """A key, metadata, data or a header is over a limit (HTTP 413, 414, 431)."""


class AuthorizationError(StoreError, PermissionError):
    """The user may see the key, but may not do this to it (HTTP 403)."""


class AuthenticationError(AuthorizationError):
    """No credentials, or credentials that do not hold (HTTP 401)."""


class ConflictError(StoreError):
    """``if_match`` or ``if_none_match`` does not hold (HTTP 409, 412); nothing was changed."""


class ChangesLostError(StoreError):
    """The change feed has forgotten what came after the point asked for (HTTP 410)."""

    def __init__(self, message: str, *, oldest: int | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        #: The oldest sequence number that the feed still has, where it said so.
        self.oldest = oldest


class IntegrityError(StoreError):
    """Bytes that do not have the length or the digest that was announced for them."""


class UnsupportedOperationError(StoreError, NotImplementedError):
    """The store cannot do this, or cannot honour this condition; it is never ignored instead."""


class NotConnectedError(StoreError, RuntimeError):
    """The store is not connected: call ``connect()`` first, or use it in a ``with`` statement."""


class StorageFullError(StoreError, OSError):
    """No room is left (ENOSPC, a quota, HTTP 507); what was stored before is as it was."""


class StorageError(StoreError, OSError):
    """The medium failed: it cannot be read or written, or holds what no store wrote."""


class DamagedError(StorageError):
    """The store's own files are not what it wrote: a file was lost, cut short or overwritten."""


class TransportError(StoreError, ConnectionError):
    """The conversation with a server broke: refused, reset, timed out, cut short, not HTTP."""

    def __init__(self, message: str, *, attempts: int = 1, **context: Any) -> None:
        super().__init__(message, **context)
        #: How often the request was tried.
        self.attempts = attempts


class UnavailableError(TransportError):
    """Busy or down now (HTTP 429, 503); trying again later may succeed."""

    def __init__(self, message: str, *, retry_after: float | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        #: Seconds after which the server asks to be tried again, where it said so.
        self.retry_after = retry_after
