"""Who sends a request, and how that is found out."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kvstore.compose.authorized import READ, allows
from kvstore.errors import AuthenticationError, AuthorizationError
from kvstore.server.access.failures import Failures
from kvstore.server.exchange import Exchange
from kvstore.values import PUBLIC, Permissions

#: What a caller may do at all; the permissions of each key come on top.
Scope: TypeAlias = Literal["read", "write", "metrics"]


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    #: What it is called in logs, such as the name of its token; never a secret.
    name: str
    #: The user's own tag, which owns the keys that are made.
    tag: str
    #: All tags of the user, that one and ``public`` included.
    tags: frozenset[str]
    scopes: frozenset[Scope]
    #: Whether its credentials hold still; cheap, for any thread.
    holds: Callable[[], bool] = field(default=_always, compare=False, repr=False)

    def may(self, scope: Scope) -> bool:
        """Whether the credentials are for such requests."""
        return scope in self.scopes

    def reads(self, permissions: Permissions | None) -> bool:
        """Whether the permissions of a key let the user read it."""
        return permissions is not None and allows(permissions, self.tags, READ)

    def demand(self, scope: Scope) -> None:
        """Refuse a request that the credentials are not for.

        Raises:
            AuthenticationError: there were none.
            AuthorizationError: they are for other requests.
        """
        if scope in self.scopes:
            return
        if self is ANONYMOUS or self is READER:
            raise unauthenticated()
        raise AuthorizationError(
            f"The credentials of {self.name!a:.100} are not for this: {scope}."
        )

    def demand_still(self) -> None:
        """Refuse what took long and was begun with credentials that hold no more.

        Raises:
            AuthenticationError: they have expired, or were revoked.
        """
        if not self.holds():
            raise AuthenticationError("The credentials have expired or were revoked meanwhile.")


#: Who sends no credentials: where nothing is public, and where what is public may be read.
ANONYMOUS = Caller("anonymous", PUBLIC, frozenset({PUBLIC}), frozenset())
READER = Caller("anonymous", PUBLIC, frozenset({PUBLIC}), frozenset({"read"}))


class Authenticator(ABC):
    """Knows one kind of credentials. Lives on the event loop."""

    @abstractmethod
    async def identify(self, bearer: str) -> Caller | None:
        """Return whose credentials these are; None where they are of another kind.

        Raises:
            AuthenticationError: they are of this kind, and do not hold.
            UnavailableError: whether they hold cannot be found out now.
        """

    def recall(self, bearer: str) -> Caller | None:
        """Return whose credentials these are, where that can be told without waiting.

        None where they are of another kind or do not hold, too.
        """
        del bearer
        return None


class Access:
    """Tells who sends a request, by what its ``Authorization`` field holds (RFC 6750 section 2.1).

    Credentials come in that field alone: neither URLs, which are logged, nor cookies, which
    browsers send by themselves, carry any.

    Args:
        authenticators: those who know the kinds of credentials that are taken.
        public_read: whether everybody may read what has the tag ``public``.
        failures: wrong credentials a minute from one address that are told so; 429 above.
        closed: whether callers are told apart yet, asked until it says so once; None: from the
            beginning. Until then everybody is the store's own user.
    """

    def __init__(
        self,
        authenticators: Iterable[Authenticator],
        *,
        public_read: bool = False,
        failures: int = 30,
        closed: Callable[[], bool] | None = None,
    ) -> None:
        self._authenticators = tuple(authenticators)
        self._nobody = READER if public_read else ANONYMOUS
        self._failures = Failures(failures)
        self._closed = closed

    def is_open(self) -> bool:
        """Whether callers are not told apart yet. That ends, and never begins again."""
        if self._closed is not None and self._closed():
            self._closed = None
        return self._closed is not None

    @property
    def is_public(self) -> bool:
        """Whether everybody may read what has the tag ``public``."""
        return self._nobody is READER

    async def caller(self, exchange: Exchange, *, takes_basic: bool = False) -> Caller:
        """Return who sends a request.

        Args:
            takes_basic: whether the token may be the password of ``Basic`` credentials, for clients
                of other systems that can be told no token but a URL with a password in it. The
                server never asks for such, so no browser keeps any to send by itself.

        Raises:
            AuthenticationError: there are credentials, and they do not hold.
            UnavailableError: there were too many such from that address (429), or whether they hold
                cannot be found out now.
            InvalidRequestError: they are given twice.
        """
        text = exchange.single(b"authorization")
        if text is None:
            return self._nobody
        try:
            return await self._identified(text, takes_basic=takes_basic)
        except AuthenticationError:
            # Not before they are looked at: behind one address there may be a whole lab, of which
            # one script has an old token. Nobody guesses 256 bits, however often he may try.
            self._failures.count(exchange.scope.get("client"))
            raise

    def recall(self, authorization: bytes | None) -> Caller | None:
        """Return who sends these credentials, if they hold and that can be told without waiting.

        Args:
            authorization: value of the one ``Authorization`` field; None: there is none.
        """
        if authorization is None:
            return self._nobody
        scheme, _, bearer = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        bearer = bearer.strip()
        for authenticator in self._authenticators:
            caller = authenticator.recall(bearer)
            if caller is not None:
                return caller
        return None

    async def _identified(self, text: str, *, takes_basic: bool) -> Caller:
        scheme, _, bearer = text.partition(" ")
        if takes_basic and scheme.lower() == "basic":
            scheme, bearer = "bearer", _password(bearer)
        if scheme.lower() == "bearer":
            for authenticator in self._authenticators:
                caller = await authenticator.identify(bearer.strip())
                if caller is not None:
                    return caller
        raise unauthenticated()


def _password(credentials: str) -> str:
    """The password of ``Basic`` credentials (RFC 7617); empty where they are none."""
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        return ""
    return decoded.partition(":")[2]


def unauthenticated() -> AuthenticationError:
    """The refusal of a request without credentials, or with some that nobody knows."""
    return AuthenticationError("This needs credentials that hold: Authorization: Bearer <token>.")
