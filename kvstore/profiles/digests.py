"""``Content-Digest`` and ``Repr-Digest`` fields (RFC 9530): write, read, and check bytes by them.

Within the package a digest is spelled ``sha256:`` and 64 lower-case hexadecimal digits.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Protocol

from kvstore.errors import IntegrityError, InvalidRequestError

#: Digest sizes in bytes, of the algorithms that are checked. Others are weak or not known.
_SIZES = {"sha-256": 32, "sha-512": 64}

_HEX = re.compile(r"[0-9a-f]{64}")

# RFC 8941: a dictionary whose members are byte sequences with parameters of any kind.
_NAME = r"[a-z*][a-z0-9_.*-]*"
_BARE_ITEM = (
    r"(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"'
    r"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
    r"|:[A-Za-z0-9+/=]*:"
    r"|\?[01])"
)
_MEMBER = re.compile(rf"({_NAME})=:([A-Za-z0-9+/]*)={{0,2}}:(?:;[ ]*{_NAME}(?:={_BARE_ITEM})?)*")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


class Hasher(Protocol):
    """What :mod:`hashlib` returns."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """The digest of all bytes so far."""


def format_digest(hex_sha256: str) -> str:
    """The field value for a SHA-256 of 64 lower-case hexadecimal digits: ``sha-256=:…:``.

    Raises:
        InvalidRequestError: for anything else.
    """
    if not _HEX.fullmatch(hex_sha256):
        raise InvalidRequestError(f"{hex_sha256!r:.100} is no SHA-256 in 64 hexadecimal digits.")
    return _member("sha-256", bytes.fromhex(hex_sha256))


def field_of_digest(digest: str) -> str:
    """The field value for a digest in the package's spelling, ``sha256:…``.

    Raises:
        InvalidRequestError: for anything else.
    """
    algorithm, _, digits = digest.partition(":")
    if algorithm != "sha256" or not _HEX.fullmatch(digits):
        raise InvalidRequestError(
            f"{digest!r:.100} is no digest: it is 'sha256:' and 64 lower-case hexadecimal digits."
        )
    return format_digest(digits)


def digest_of_field(value: str) -> str | None:
    """The SHA-256 of a field value in the package's spelling; ``None`` if it has none.

    Raises:
        InvalidRequestError: ``value`` is malformed, or its SHA-256 has not 32 bytes.
    """
    digest = parse_digest(value).get("sha-256")
    if digest is None:
        return None
    _check_size("sha-256", digest)
    return f"sha256:{digest.hex()}"


def parse_digest(value: str) -> dict[str, bytes]:
    """Algorithm -> digest, of one field value (its lines joined by ``", "``).

    Algorithms are kept whether known or not. The last of several members of one name counts, and
    missing base64 padding is forgiven (RFC 8941 sections 4.2.2 and 4.2.7).

    Raises:
        InvalidRequestError: ``value`` is no dictionary of byte sequences.
    """
    text = value.strip(" ")
    digests: dict[str, bytes] = {}
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None or len(member[2]) % 4 == 1:
            raise _malformed(value)
        digests[member[1]] = base64.b64decode(member[2] + "=" * (-len(member[2]) % 4))
        at = member.end()
        if at == len(text):
            return digests
        comma = _COMMA.match(text, at)
        if comma is None or comma.end() == len(text):
            raise _malformed(value)
        at = comma.end()
    return digests


class DigestCheck:
    """Checks bytes, as they pass, against every SHA-256 and SHA-512 announced for them.

    Other algorithms are ignored, as RFC 9530 section 5 asks. Not thread-safe: one check belongs
    to one body.

    Args:
        fields: the values of the digest fields, such as that of ``Content-Digest`` and that of
            ``Repr-Digest``. What each announces must hold.
        sha256: a SHA-256 hasher that the caller feeds with the same bytes anyhow; it is read
            instead of hashing them twice.

    Raises:
        InvalidRequestError: a field is malformed, or a digest has not its algorithm's size.
    """

    def __init__(self, fields: list[str], *, sha256: Hasher | None = None) -> None:
        self._announced: list[tuple[str, bytes]] = []
        for value in fields:
            for algorithm, digest in parse_digest(value).items():
                if algorithm in _SIZES:
                    _check_size(algorithm, digest)
                    self._announced.append((algorithm, digest))
        own = {algorithm for algorithm, _ in self._announced}
        self._hashers: dict[str, Hasher] = {}
        if sha256 is not None:
            self._hashers["sha-256"] = sha256
            own.discard("sha-256")
        for algorithm in sorted(own):
            self._hashers[algorithm] = hashlib.new(algorithm.replace("-", ""))
        self._own = tuple(self._hashers[algorithm] for algorithm in sorted(own))

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What is checked, such as ``("sha-256",)``; empty if nothing is."""
        return tuple(sorted({algorithm for algorithm, _ in self._announced}))

    def update(self, data: bytes) -> None:
        """Take in the next bytes of the body."""
        for hasher in self._own:
            hasher.update(data)

    def verify(self, *, key: str | None = None) -> None:
        """Compare the bytes so far with what was announced.

        Raises:
            IntegrityError: they have another digest.
        """
        for algorithm, announced in self._announced:
            actual = self._hashers[algorithm].digest()
            if actual != announced:
                raise IntegrityError(
                    f"The bytes have the digest {_member(algorithm, actual)}, "
                    f"but {_member(algorithm, announced)} was announced.",
                    key=key,
                )


def _member(algorithm: str, digest: bytes) -> str:
    return f"{algorithm}=:{base64.b64encode(digest).decode()}:"


def _check_size(algorithm: str, digest: bytes) -> None:
    if len(digest) != _SIZES[algorithm]:
        raise InvalidRequestError(
            f"A {algorithm} digest has {_SIZES[algorithm]} bytes, "
            f"but {_member(algorithm, digest):.200} has {len(digest)}."
        )


def _malformed(value: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The digest field {value!r:.100} is no list of members such as sha-256=:…:."
    )
