"""The file of the tokens of a server: what it holds, read and replaced as a whole."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from kvstore.disk import Foreign, flush
from kvstore.documents import JsonObject, dump_json, parse_object
from kvstore.errors import DamagedError, InvalidRequestError
from kvstore.files import replacing, write_all
from kvstore.server.access.callers import Scope
from kvstore.values import OWNED, check_permissions

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
#: Of the file, and of those beside it.
MODE: Final = 0o600
_FORMAT = 1
#: Bytes; some ten thousand tokens. A larger file is none of ours.
_MOST = 8 << 20


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token: everything but itself."""

    #: Tells tokens apart; it is part of the token, and no secret.
    id: str
    name: str
    #: The tag of its user, and the further tags of that one.
    user: str
    tags: frozenset[str]
    scopes: frozenset[Scope]
    #: Times are in seconds since the epoch.
    created: float
    #: None: never.
    expires: float | None
    #: SHA-256 of salt and token, both in hexadecimal. A slow hash is for passwords, which people
    #: choose; nobody tries 2**256 of these.
    salt: str
    digest: str

    def is_of(self, text: str) -> bool:
        """Whether *text* is the token. Takes the same time wherever it differs."""
        return hmac.compare_digest(digest_of(self.salt, text), self.digest)

    def has_expired(self, now: float) -> bool:
        """Whether its time is over at *now*."""
        return self.expires is not None and self.expires <= now


def read_tokens(path: Path) -> dict[str, Token]:
    """Return the tokens in a file by their ids; none where there is no file.

    Raises:
        DamagedError: the file is none of ours.
        StorageError: it cannot be read.
    """
    with Foreign(str(path.parent)):
        try:
            with path.open("rb") as file:
                text = file.read(_MOST + 1)
        except FileNotFoundError:
            return {}
    try:
        return _parsed(text)
    except (InvalidRequestError, KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError(f"There are no tokens in the file {str(path)!r}.") from None


def write_tokens(path: Path, tokens: Mapping[str, Token]) -> None:
    """Replace the file. Whoever reads it meanwhile has the old one or the new one.

    Raises:
        StorageError: the disk is full, or fails.
    """
    document = {"format": _FORMAT, "tokens": [_record(token) for token in tokens.values()]}
    with Foreign(str(path.parent)), replacing(path, MODE) as part:
        descriptor = os.open(part, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        try:
            write_all(descriptor, dump_json(document))
            flush(descriptor, durable=True)
        finally:
            os.close(descriptor)
        give_away(part, path)


def give_away(file: Path, path: Path) -> None:
    """Let a file be of whom the tokens at *path* are, or their folder.

    An administrator makes tokens for a server that runs as another user, which must read them.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = (path if path.exists() else path.parent).stat()
        os.chown(file, owner.st_uid, owner.st_gid)


def digest_of(salt: str, text: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest()


def _record(token: Token) -> JsonObject:
    return {
        "id": token.id,
        "name": token.name,
        "user": token.user,
        "tags": sorted(token.tags),
        "scopes": [scope for scope in SCOPES if scope in token.scopes],
        "created": token.created,
        "expires": token.expires,
        "salt": token.salt,
        "digest": token.digest,
    }


def _parsed(text: bytes) -> dict[str, Token]:
    document: Any = parse_object(text, what="file of tokens")
    if document["format"] != _FORMAT or len(text) > _MOST:
        raise ValueError(document["format"])
    tokens = [_token(record) for record in document["tokens"]]
    return {token.id: token for token in tokens}


def _token(record: Any) -> Token:
    expires = record["expires"]
    texts = [record[name] for name in ("id", "name", "user", "salt", "digest")]
    tags, scopes = frozenset(record["tags"]), frozenset(record["scopes"])
    check_permissions({OWNED: {record["user"], *tags}}, complete=True)
    # Whatever cannot be understood must not pass for less than it is, such as no expiry.
    if not all(isinstance(text, str) for text in texts) or not scopes.issubset(SCOPES):
        raise TypeError(record)
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, int | float)):
        raise TypeError(expires)
    if not texts[0].isalnum():  # files are called so
        raise ValueError(texts[0])
    identifier, name, user, salt, digest = texts
    return Token(
        identifier, name, user, tags, scopes, float(record["created"]), expires, salt, digest
    )
