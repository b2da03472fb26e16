"""MD5 of data, which clients of this protocol compare by; it never outlives the data it is of."""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from kvstore.documents import JsonObject
from kvstore.errors import ConflictError, IntegrityError, InvalidRequestError, KeyNotFoundError
from kvstore.gateways.vospace.tree import Node
from kvstore.server.answers import Field
from kvstore.server.site import Site
from kvstore.values import BUFFER_SIZE, Record

#: Bytes that are read for the MD5 of one node that was not stored with any, and for all of a list.
FOR_ONE, FOR_LIST = 64 << 20, 16 << 20
_KEPT = 10_000

_Known: TypeAlias = "OrderedDict[tuple[str, ...], str]"


class Checksums:
    """MD5 of the data of keys, as far as they are worth working out. Thread-safe.

    What was stored through this protocol has its MD5 in the metadata, beside the SHA-256 of the
    data that it is of. Where that is not the SHA-256 that the store tells, it is that of other
    data. The MD5 of the rest is worked out when it is asked for, and kept in memory only: a
    request that reads changes nothing.
    """

    def __init__(self) -> None:
        self._known: _Known = OrderedDict()
        self._guard = threading.Lock()

    def budget(self, size: int) -> Budget:
        """Return what answers for one request, for which at most *size* bytes are read."""
        return Budget(self, size)

    def get(self, name: tuple[str, ...]) -> str | None:
        """Return the MD5 that is known for this data."""
        with self._guard:
            return self._known.get(name)

    def keep(self, name: tuple[str, ...], md5: str) -> None:
        """Take note of an MD5; those that are asked for least are forgotten."""
        with self._guard:
            self._known[name] = md5
            self._known.move_to_end(name)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


class Budget:
    """Works out MD5 for one request, until it has read enough."""

    def __init__(self, known: Checksums, left: int) -> None:
        self._all = known
        self._left = left

    def md5(self, site: Site, record: Record) -> str | None:
        """Return the MD5 of the data in hexadecimal digits; None if it would take too long."""
        stored = stored_facts(record).get("md5")
        if isinstance(stored, str):
            return stored
        if record.size == 0:
            return hashlib.md5(b"", usedforsecurity=False).hexdigest()
        name = _name_of(record)
        known = None if name is None else self._all.get(name)
        if known is not None or record.size > self._left:
            return known
        self._left -= record.size
        found = _worked_out(site, record)
        if found is not None and name is not None:
            self._all.keep(name, found)
        return found

    def of(self, site: Site, node: Node) -> str | None:
        """Return the MD5 of a node; None where it has no bytes, or it would take too long."""
        return self.md5(site, node.record) if node.is_data and node.record is not None else None


def stored_facts(record: Record) -> JsonObject:
    """Return what is known of the data of a key alone; nothing where others wrote these."""
    facts = record.metadata.get("vospace")
    data = facts.get("data") if isinstance(facts, dict) else None
    if not isinstance(data, dict) or record.digest is None:
        return {}
    return data if data.get("digest") == record.digest else {}


def facts_of_data(data: bytes) -> JsonObject:
    """Return what is stored beside data."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "md5": md5}


class Md5Check:
    """MD5 of data on its way, and of what was announced for it (RFC 3230, ``Digest: md5=...``).

    Raises:
        InvalidRequestError: what was announced is no MD5.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._hash = hashlib.md5(usedforsecurity=False)
        self._announced = _announced(", ".join(lines))

    @property
    def hexdigest(self) -> str:
        """The MD5 of what has passed."""
        return self._hash.hexdigest()

    def verify(self, key: str) -> None:
        """Raise IntegrityError if the data are not those that were announced."""
        if self._announced is not None and self._announced != self._hash.digest():
            message = f"The MD5 of the data of {key!a:.200} is not what Digest announced."
            raise IntegrityError(message, key=key)

    def check(self, data: bytes, key: str) -> bytes:
        """Return *data*, which are all.

        Raises:
            IntegrityError: they are not those that were announced.
        """
        self._hash.update(data)
        self.verify(key)
        return data

    def passing(self, pieces: Iterable[bytes], key: str) -> Iterator[bytes]:
        """Yield *pieces*, and raise IntegrityError behind the last if they are others."""
        for piece in pieces:
            self._hash.update(piece)
            yield piece
        self.verify(key)


def digest_field(md5: str | None) -> list[Field]:
    """Return the header field that tells an MD5, in the form that clients of VOSpace read."""
    if md5 is None:
        return []
    try:
        raw = bytes.fromhex(md5)
    except ValueError:  # metadata may be written by anybody
        return []
    return [(b"digest", b"md5=" + base64.b64encode(raw))] if len(raw) == 16 else []


def _announced(text: str) -> bytes | None:
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() != "md5":
            continue
        try:
            digest = base64.b64decode(value, validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 16:
            raise InvalidRequestError(f"Digest holds no MD5 in base64: {text!r:.100}.")
        return digest
    return None


def _name_of(record: Record) -> tuple[str, ...] | None:
    if record.digest is not None:
        return (record.digest,)
    return None if record.revision is None else (record.key, record.revision)


def _worked_out(site: Site, record: Record) -> str | None:
    try:
        value = site.store.get(record.key)
        if value.record.revision != record.revision:
            value.close()
            return None
        found = hashlib.md5(usedforsecurity=False)
        for piece in value.iterdata(BUFFER_SIZE):
            found.update(piece)
    except (ConflictError, KeyNotFoundError):
        return None  # it was changed meanwhile; who asks again finds what is there then
    return found.hexdigest()
