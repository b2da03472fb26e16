"""Tokens as credentials: looked up in memory, as the file was half a second ago at most."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kvstore.errors import AuthenticationError, StoreError
from kvstore.server.access import token_text
from kvstore.server.access.callers import Authenticator, Caller, unauthenticated
from kvstore.server.access.token_file import Token
from kvstore.server.access.tokens import Tokens
from kvstore.values import PUBLIC

#: Seconds between two looks at the file.
_INTERVAL = 0.5
#: Seconds between two notes that a token was used.
_COARSE = 60.0

_log = logging.getLogger("kvstore.server")


#: Tokens by their names, and who comes with each.
_Known: TypeAlias = dict[str, tuple[Token, Caller]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The file as it was. Replaced as a whole, so that threads need no lock."""

    #: Until when it is not looked at again, in seconds of the monotonic clock.
    until: float
    #: What tells one state of the file from another; None: there was none.
    stamp: tuple[int, ...] | None
    tokens: _Known


class TokenAuthenticator(Authenticator):
    """Knows the tokens of a file, which others may change.

    A file that is damaged, or was there and is gone, lets nobody in. May be asked in any thread
    whether a token still holds.

    Args:
        monotonic: seconds, from any beginning.
    """

    def __init__(self, tokens: Tokens, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._monotonic = monotonic
        self._seen = _Seen(0.0, None, {})
        self._noted: dict[str, float] = {}
        self._has_looked = False

    def exists(self) -> bool:
        """Whether there was ever a token."""
        self._current()
        return self._seen.stamp is not None

    async def identify(self, bearer: str) -> Caller | None:
        return self._identified(bearer)

    def recall(self, bearer: str) -> Caller | None:
        try:
            return self._identified(bearer)
        except AuthenticationError:
            return None

    def _identified(self, bearer: str) -> Caller | None:
        if not token_text.is_ours(bearer):
            return None
        identifier = token_text.claimed_id(bearer)
        # Who has just made one wants to use it: what is not known is looked for once more.
        found = self._current().get(identifier) or self._look().get(identifier)
        if found is None or not found[0].is_of(bearer):
            raise unauthenticated()
        token, caller = found
        if token.has_expired(self._tokens.clock()):
            raise AuthenticationError(f"The token {token.name!a:.100} has expired.")
        self._note(token)
        return caller

    def _caller(self, token: Token) -> Caller:
        tags = frozenset({token.user, PUBLIC, *token.tags})
        holds = functools.partial(self._holds, token)
        return Caller(token.name, token.user, tags, token.scopes, holds)

    def _holds(self, token: Token) -> bool:
        now = self._current().get(token.id)
        return now is not None and now[0] == token and not token.has_expired(self._tokens.clock())

    def _current(self) -> _Known:
        seen = self._seen
        if self._has_looked and self._monotonic() < seen.until:
            return seen.tokens
        return self._look()

    def _look(self) -> _Known:
        seen, now, stamp = self._seen, self._monotonic(), self._stamp()
        tokens = seen.tokens
        if stamp != seen.stamp or not self._has_looked:
            tokens = self._loaded(stamp)
            self._noted = {name: at for name, at in self._noted.items() if name in tokens}
        self._seen = _Seen(now + _INTERVAL, stamp, tokens)
        self._has_looked = True
        return tokens

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._tokens.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return (error.errno or 0,)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _loaded(self, stamp: tuple[int, ...] | None) -> _Known:
        if stamp is None:
            if self._has_looked:
                _log.error("The file of tokens is gone, and so nobody gets in: %a", self._shown)
            return {}
        try:
            tokens = self._tokens.load()
        except StoreError as error:
            _log.error("Nobody gets in by a token until this is mended: %s", error)
            return {}
        return {name: (token, self._caller(token)) for name, token in tokens.items()}

    @property
    def _shown(self) -> str:
        return str(self._tokens.path)

    def _note(self, token: Token) -> None:
        now = self._monotonic()
        if now - self._noted.get(token.id, -_COARSE) >= _COARSE:
            self._noted[token.id] = now
            asyncio.get_running_loop().run_in_executor(None, self._tokens.note_use, token)
