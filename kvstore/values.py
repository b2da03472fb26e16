"""What a store holds under a key: the record of facts, the value with its data, permissions."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol, TypeAlias

from kvstore.documents import JsonObject, check_document, copy_json
from kvstore.errors import (
    InvalidPermissionsError,
    InvalidRequestError,
    RangeError,
    UnsupportedOperationError,
)

#: Bytes read or written at a time where the caller does not say.
BUFFER_SIZE = 1 << 20
DEFAULT_MIMETYPE = "application/octet-stream"
#: The permission that holds all rights, permissions included; it is never without a tag.
OWNED = "owned"
#: The reserved tag of everybody.
PUBLIC = "public"

_MIMETYPE = re.compile(r"[ -~]{1,255}")

Permissions: TypeAlias = dict[str, set[str]]
ProgressCallback: TypeAlias = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Record:
    """The facts about one key at one revision; all but the data itself."""

    key: str
    #: A JSON object. Shared with the store: :meth:`Value.metadata` gives out copies.
    metadata: JsonObject
    #: Bytes of data.
    size: int
    #: When the key was made and last changed, in seconds since the epoch (UTC); None if unknown.
    created: float | None = None
    modified: float | None = None
    #: Media type (RFC 6838) of the data.
    mimetype: str = DEFAULT_MIMETYPE
    #: Opaque text that is new after every change to data, metadata or permissions; None if the
    #: store has none.
    revision: str | None = None
    #: ``sha256:`` and 64 hexadecimal digits over the data; None if the store did not record it.
    digest: str | None = None
    #: Permission to the tags that have it; None where the store did not tell.
    permissions: Permissions | None = None


def copy_record(record: Record) -> Record:
    """Return a record that shares nothing with *record* that could be changed."""
    permissions = None if record.permissions is None else copy_permissions(record.permissions)
    return replace(record, metadata=copy_json(record.metadata), permissions=permissions)


class Opener(Protocol):
    """Opens the data of one revision for reading, from *start* to before *end*."""

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a new stream over these bytes; None is the beginning, or the end."""
        ...


class Value:
    """One key as it was when it was read: its facts at hand, its data as a stream.

    Unpacks as ``data, metadata``. Given to another store's ``set`` it streams, never buffers.
    ``data`` is one stream however often it is asked for; ``open`` and ``range`` give independent
    streams. All streams give the bytes of this revision; where the key has been changed meanwhile
    and the store keeps only the newest revision they raise ``ConflictError``.

    A Value may hold an open connection until it is read or closed; ``with value as stream``
    closes it. It may be handed to another thread, not shared between two.
    """

    __slots__ = ("_data", "_metadata", "_open", "_permissions", "record")

    def __init__(
        self,
        record: Record,
        opener: Opener,
        permissions: Callable[[], Permissions] | None = None,
    ) -> None:
        #: All facts in one frozen object.
        self.record = record
        self._open = opener
        self._permissions = permissions
        self._metadata: JsonObject | None = None
        self._data: BinaryIO | None = None

    @property
    def key(self) -> str:
        """The key that was asked for."""
        return self.record.key

    @property
    def metadata(self) -> JsonObject:
        """The metadata, as a copy that belongs to this Value."""
        if self._metadata is None:
            self._metadata = copy_json(self.record.metadata)
        return self._metadata

    @property
    def permissions(self) -> Permissions:
        """Permission to set of tags, as a copy.

        Raises:
            AuthorizationError: the user is no owner.
            UnsupportedOperationError: the store does not tell permissions.
        """
        if self.record.permissions is not None:
            return copy_permissions(self.record.permissions)
        if self._permissions is None:
            message = f"The store does not tell the permissions of {self.key!a}."
            raise UnsupportedOperationError(message, key=self.key)
        return self._permissions()

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self.record.size

    @property
    def created(self) -> float | None:
        """Seconds since the epoch; None where the store cannot know."""
        return self.record.created

    @property
    def modified(self) -> float | None:
        """Seconds since the epoch; None where the store cannot know."""
        return self.record.modified

    @property
    def mimetype(self) -> str:
        """Media type of the data."""
        return self.record.mimetype

    @property
    def revision(self) -> str | None:
        """What ``if_match=`` takes; a Value itself may be given instead."""
        return self.record.revision

    @property
    def digest(self) -> str | None:
        """``sha256:<hex>`` of the data, where the store recorded it."""
        return self.record.digest

    @property
    def data(self) -> BinaryIO:
        """The data as a readable binary stream, the same one at each access."""
        if self._data is None:
            self._data = self._open(None, None)
        return self._data

    def open(self) -> BinaryIO:
        """Return a new stream over all the data."""
        return self._open(None, None)

    def range(self, start: int | None = None, end: int | None = None) -> BinaryIO:
        """Return a new stream of the bytes from *start* to before *end* (see `resolve_range`)."""
        check_range(start, end, key=self.key)
        return self._open(start, end)

    def read(self) -> bytes:
        """Return all the data at once."""
        with self._open(None, None) as stream:
            return stream.read()

    def iterdata(
        self, buffer_size: int = BUFFER_SIZE, progress: ProgressCallback | None = None
    ) -> Iterator[bytes]:
        """Yield the data in pieces of *buffer_size* bytes (the last may be shorter).

        *progress* is called as ``progress(done, total)``, in bytes, after each piece.

        Raises:
            InvalidRequestError: *buffer_size* is not positive.
        """
        return self._pieces(check_buffer_size(buffer_size), progress)

    def _pieces(self, buffer_size: int, progress: ProgressCallback | None) -> Iterator[bytes]:
        done = 0
        with self._open(None, None) as stream:
            while chunk := stream.read(buffer_size):
                done += len(chunk)
                if progress is not None:
                    progress(done, self.size)
                yield chunk

    def close(self) -> None:
        """Close the stream of :attr:`data`, and the connection it may hold. Idempotent."""
        release = getattr(self._open, "close", None)
        if release is not None:
            release()
        if self._data is not None:
            self._data.close()

    def __enter__(self) -> BinaryIO:
        return self.data

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # The pair (data, metadata) that values were before they had a class.
    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        return iter((self.data, self.metadata))

    def __getitem__(self, index: int) -> Any:
        # Not by way of the pair: to open the data is a request to a server.
        if index in (0, -2):
            return self.data
        if index in (1, -1):
            return self.metadata
        raise IndexError(f"A value is a pair (data, metadata); it has no item {index!r:.100}.")

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Value {self.key!r}, {self.size} bytes, revision {self.revision!r}>"


class BytesOpener:
    """Opener over data in memory."""

    __slots__ = ("_data", "_key")

    def __init__(self, data: bytes, key: str | None = None) -> None:
        self._data = data
        self._key = key

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over a range of the data."""
        if start is None and end is None:
            return io.BytesIO(self._data)
        first, last = resolve_range(start, end, len(self._data), key=self._key)
        return io.BytesIO(self._data[first:last])


def resolve_range(
    start: int | None, end: int | None, size: int, *, key: str | None = None
) -> tuple[int, int]:
    """Return the half-open ``[start, end)`` that is meant, within data of *size* bytes.

    None means from the beginning, or to the end. *end* may lie behind the data; *start* may equal
    the size, for no bytes.

    Raises:
        RangeError: a negative bound, *start* behind *end* or behind the data, or no integers.
    """
    first, last = check_range(start, end, key=key)
    if first > size:
        message = f"The range begins at {first}, behind the data of {size} bytes."
        raise RangeError(message, size=size, key=key)
    return first, size if last is None else min(last, size)


def check_range(
    start: int | None, end: int | None, *, key: str | None = None
) -> tuple[int, int | None]:
    """As :func:`resolve_range` where the size is not known yet."""
    for bound in (start, end):
        if bound is not None and (not is_integer(bound) or bound < 0):
            message = f"The bounds of a range are integers from 0, or None, not {bound!r:.100}."
            raise RangeError(message, key=key)
    first = 0 if start is None else start
    if end is not None and end < first:
        raise RangeError(f"The range ends at {end}, before its start {first}.", key=key)
    return first, end


def is_integer(number: object) -> bool:
    """Tell whether *number* is an ``int``, and no ``bool`` passed by mistake."""
    return isinstance(number, int) and not isinstance(number, bool)


def check_buffer_size(buffer_size: int) -> int:
    """Return *buffer_size* if it is a positive number of bytes.

    Raises:
        InvalidRequestError: it is not.
    """
    if not is_integer(buffer_size) or buffer_size < 1:
        message = f"A buffer size is a positive number of bytes, not {buffer_size!r:.100}."
        raise InvalidRequestError(message)
    return buffer_size


def check_mimetype(mimetype: str | None) -> str | None:
    """Return *mimetype* if a header can carry it; what it means is not looked into.

    Raises:
        InvalidRequestError: no ``str``, or not 1 to 255 printable ASCII characters.
    """
    if mimetype is None:
        return None
    if not isinstance(mimetype, str) or not _MIMETYPE.fullmatch(mimetype):
        message = f"A media type is 1 to 255 printable ASCII characters, not {mimetype!r:.100}."
        raise InvalidRequestError(message)
    return str.__str__(mimetype)


def check_permissions(permissions: object, *, complete: bool) -> Permissions:
    """Return *permissions* as a ``dict`` of ``str`` to ``set`` of ``str``, a copy.

    Any collection of tags but a ``str`` will do, as they travel as lists. With *complete* they
    must hold ``owned`` with at least one tag, for they replace all that was.

    Raises:
        InvalidPermissionsError: naming what is wrong.
    """
    if not isinstance(permissions, Mapping):
        message = f"Permissions are a dict of str to set of str, not {permissions!r:.100}."
        raise InvalidPermissionsError(message)
    document: dict[Any, Any] = {}
    for name, tags in permissions.items():
        if not isinstance(tags, (AbstractSet, list, tuple)):
            message = f"The tags of permission {name!r:.100} are a set of str, not {tags!r:.100}."
            raise InvalidPermissionsError(message)
        document[name] = list(tags)
    if not all(isinstance(name, str) for name in document):
        raise InvalidPermissionsError(f"Names of permissions are str: {list(document)!r:.100}.")
    try:
        check_document(document, "permissions", what="permissions document")
    except InvalidRequestError as error:
        raise InvalidPermissionsError(error.message) from None
    checked = {_plain(name): {_plain(tag) for tag in tags} for name, tags in document.items()}
    if complete and not document.get(OWNED):
        raise InvalidPermissionsError("Permissions hold 'owned' with at least one tag.")
    return checked


def _plain(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        message = f"Permissions hold no lone surrogate: {text!a:.100}."
        raise InvalidPermissionsError(message) from None
    return str.__str__(text)


def copy_permissions(permissions: Permissions) -> Permissions:
    """Return a copy that shares no set with *permissions*."""
    return {name: set(tags) for name, tags in permissions.items()}


def permissions_document(permissions: Permissions) -> dict[str, list[str]]:
    """Return *permissions* as they travel and are kept in files: sorted lists for sets."""
    return {name: sorted(tags) for name, tags in sorted(permissions.items())}
