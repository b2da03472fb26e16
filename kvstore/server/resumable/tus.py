"""The header fields of resumable uploads, tus 1.0.0 (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from typing import Final

from kvstore.errors import InvalidRequestError
from kvstore.profiles.digests import DigestCheck, Hasher
from kvstore.profiles.wire import PART_TYPE, TUS_VERSION
from kvstore.server.answers import Field, Refusal
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.parameters import parse_number

#: Goes with every answer.
RESUMABLE: Final[Field] = (b"tus-resumable", TUS_VERSION.encode())
_VERSION: Final[Field] = (b"tus-version", TUS_VERSION.encode())
_EXTENSIONS = b"creation,creation-with-upload,expiration,checksum,termination"
_ALGORITHMS = ("sha1", "sha256", "md5")


def options_fields(most: int) -> list[Field]:
    """What the server tells of itself; *most* is the bytes of the largest upload."""
    return [
        _VERSION,
        (b"tus-max-size", b"%d" % most),
        (b"tus-extension", _EXTENSIONS),
        (b"tus-checksum-algorithm", ",".join(_ALGORITHMS).encode()),
    ]


def check_version(exchange: Exchange) -> None:
    """Refuse what is of another version of the protocol (412), or of none."""
    version = exchange.single(b"tus-resumable")
    if version != TUS_VERSION:
        message = f"Uploads are of the version {TUS_VERSION} here (Tus-Resumable), not {version!r}."
        raise Refusal(412, message[:300], [_VERSION])


def check_type(exchange: Exchange) -> None:
    """Refuse a body that is no part of an upload (415)."""
    kind = (exchange.single(b"content-type") or "").partition(";")[0].strip().lower()
    if kind != PART_TYPE:
        raise Refusal(415, f"A part of an upload is {PART_TYPE}, not {kind!r:.100}.")


def number_of(exchange: Exchange, name: bytes) -> int:
    """The number in a header field that must be there.

    Raises:
        InvalidRequestError: it is not, or is none.
    """
    text = exchange.single(name)
    if text is None:
        raise InvalidRequestError(f"The request has no header field {name.decode()}.")
    return parse_number(name.decode(), text)


def parse_metadata(text: str) -> dict[str, str]:
    """Return the names and values in ``Upload-Metadata``; the values are still base64.

    Raises:
        InvalidRequestError: it is malformed, or a name comes twice.
    """
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, _, value = pair.strip(" ").partition(" ")
        if name in found or (not name and text.strip(" ")):
            raise InvalidRequestError(f"Upload-Metadata is malformed at {pair!r:.100}.")
        if name:
            found[name] = value
    return found


def decoded(metadata: dict[str, str], name: str) -> bytes | None:
    """Return the value of that name in ``Upload-Metadata``, None without one.

    Raises:
        InvalidRequestError: it is no base64.
    """
    text = metadata.get(name)
    if text is None:
        return None
    try:
        return b64decode(text.encode("latin-1"), validate=True)
    except binascii.Error:
        message = f"The {name} in Upload-Metadata is no base64: {text!r:.100}."
        raise InvalidRequestError(message) from None


class Checksum:
    """What ``Upload-Checksum`` says of one part.

    Raises:
        InvalidRequestError: it is malformed, or of an algorithm that is not known.
    """

    def __init__(self, text: str) -> None:
        name, _, encoded = text.strip(" ").partition(" ")
        if name not in _ALGORITHMS:
            known = ", ".join(_ALGORITHMS)
            raise InvalidRequestError(f"Checksums are {known}, not {name!r:.100}.")
        try:
            self._expected = b64decode(encoded.strip(" ").encode("latin-1"), validate=True)
        except binascii.Error:
            raise InvalidRequestError(f"{encoded!r:.100} is no base64 of a checksum.") from None
        # The protocol's own: they find what is damaged on its way, and keep no secret.
        self._hasher: Hasher = hashlib.new(name, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take in the next bytes of the part."""
        self._hasher.update(data)

    def verify(self) -> None:
        """Refuse bytes that have another checksum (460)."""
        if self._hasher.digest() != self._expected:
            raise Refusal(460, "The bytes have another checksum; they are not kept.")


def checks_of(exchange: Exchange) -> list[Checksum | DigestCheck]:
    """What the header says of the bytes that come: the protocol's checksum, and RFC 9530's digest.

    Raises:
        InvalidRequestError: one is malformed.
    """
    text = exchange.single(b"upload-checksum")
    digest = DigestCheck([", ".join(exchange.lines(b"content-digest"))])
    return [*([] if text is None else [Checksum(text)]), *([digest] if digest.algorithms else [])]
