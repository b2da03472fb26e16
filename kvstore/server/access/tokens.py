"""The tokens of a server: made, listed and revoked, by several processes at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from kvstore.disk import Foreign
from kvstore.errors import ConflictError, InvalidRequestError, KeyNotFoundError, UnavailableError
from kvstore.server.access import token_text
from kvstore.server.access.callers import Scope
from kvstore.server.access.token_file import (
    MODE,
    SCOPES,
    Token,
    digest_of,
    give_away,
    read_tokens,
    write_tokens,
)
from kvstore.values import OWNED, PUBLIC, check_permissions

#: Seconds that one who changes the file waits for another one who does.
_PATIENCE = 10.0
#: Seconds between two notes that a token was used.
_COARSE = 60.0


class Tokens:
    """The tokens in a file. Thread-safe, and for several processes at a time; all methods block.

    The file is replaced as a whole, so that who reads it needs no lock. Beside it are a lock for
    those who change it and a folder that notes when each token was last used.

    Args:
        path: of the file, which need not be there.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self._used = path.with_name(f"{path.name}.used")

    def load(self) -> dict[str, Token]:
        """Return the tokens by their ids; none where there is no file.

        Raises:
            DamagedError: the file is none of ours.
            StorageError: it cannot be read.
        """
        return read_tokens(self.path)

    def exists(self) -> bool:
        """Whether there was ever a token here. One that can only not be seen counts as there."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def create(
        self,
        name: str,
        *,
        user: str | None = None,
        tags: Iterable[str] = (),
        scopes: Iterable[Scope] = ("read", "write"),
        expires: float | None = None,
    ) -> tuple[Token, str]:
        """Make a token, and return what is kept of it and the token itself, which is not.

        Args:
            name: what it is called, here and in logs; no two have the same.
            user: the tag of its user, who owns what is made with it; None: as its name.
            tags: further tags of that user, such as those of groups.
            scopes: what it is for: ``read``, ``write``, ``metrics``.
            expires: in seconds since the epoch; None: never.

        Raises:
            ConflictError: there is one of that name.
            InvalidRequestError: a name, scope or time that is none.
            InvalidPermissionsError: a tag that is none.
            UnavailableError, StorageError: somebody else changes the file, or the disk fails.
        """
        if isinstance(tags, str):  # whose letters would be taken for tags
            raise InvalidRequestError(f"Tags are a list of tags, not one: {tags!a:.100}.")
        user = name if user is None else user
        token, text = _made(name, user, frozenset(tags), frozenset(scopes), self.clock(), expires)
        with self._changing() as tokens:
            if any(other.name == name for other in tokens.values()):
                raise ConflictError(f"There is a token of the name {name!a:.100} already.")
            tokens[token.id] = token
        return token, text

    def revoke(self, name: str) -> Token:
        """Forget a token; whoever has it gets in no more.

        Raises:
            KeyNotFoundError: there is none of that name.
            UnavailableError, StorageError: as for :meth:`create`.
        """
        with self._changing() as tokens:
            found = [token for token in tokens.values() if token.name == name]
            if not found:
                raise KeyNotFoundError(f"There is no token of the name {name!a:.100}.")
            del tokens[found[0].id]
        with contextlib.suppress(OSError):
            (self._used / found[0].id).unlink()
        return found[0]

    def note_use(self, token: Token) -> None:
        """Note that a token is used now, to within a minute. A disk that fails is no failure."""
        file = self._used / token.id
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                if self.clock() - file.stat().st_mtime < _COARSE:  # another process has
                    return
            self._used.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, MODE))
            os.utime(file, (self.clock(), self.clock()))

    def last_used(self, token: Token) -> float | None:
        """Return when a token was last used, to within a minute, as far as that was noted."""
        try:
            return (self._used / token.id).stat().st_mtime
        except OSError:
            return None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """Give the tokens, and keep what becomes of them in a ``with`` block."""
        lock = FileLock(f"{self.path}.lock", timeout=_PATIENCE, mode=MODE)
        with Foreign(str(self.path.parent)):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                message = f"Somebody else is changing the tokens in {str(self.path)!r}."
                raise UnavailableError(message) from None
        try:
            give_away(Path(lock.lock_file), self.path)
            tokens = self.load()
            yield tokens
            write_tokens(self.path, tokens)
        finally:
            lock.release()


def _made(
    name: str,
    user: str,
    tags: frozenset[str],
    scopes: frozenset[Scope],
    now: float,
    expires: float | None,
) -> tuple[Token, str]:
    check_permissions({OWNED: {name, user, *tags}}, complete=True)
    for tag in (user, *sorted(tags)):
        if not tag.isprintable() or tag != tag.strip():  # nobody would see why it fits no other
            raise InvalidRequestError(f"A tag of a user is text without odd blanks: {tag!a:.100}.")
    if user == PUBLIC:  # everybody would own what it makes
        raise InvalidRequestError(f"The tag {PUBLIC!r} is everybody's, and so of no user.")
    if not name.isprintable() or len(name) > 100:
        raise InvalidRequestError(f"A token has a name of one line, not {name!a:.100}.")
    unknown = scopes.difference(SCOPES)
    if unknown or not scopes:
        shown = f"{min(unknown)!r:.100}" if unknown else "for nothing"
        raise InvalidRequestError(f"A token is for {', '.join(SCOPES)}, not {shown}.")
    if expires is not None and not expires > now:
        raise InvalidRequestError("A token expires in the future.")
    identifier = token_text.new_id()
    text, salt = token_text.new_text(identifier), secrets.token_hex(16)
    digest = digest_of(salt, text)
    return Token(identifier, name, user, tags, scopes, now, expires, salt, digest), text
