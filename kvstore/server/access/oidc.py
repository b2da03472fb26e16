"""Tokens that an OpenID provider signs (JWT, RFC 7519), as credentials."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from kvstore.errors import AuthenticationError, InvalidPermissionsError
from kvstore.server.access.callers import Authenticator, Caller, Scope, unauthenticated
from kvstore.server.access.oidc_keys import ProviderKeys
from kvstore.server.running.settings import Oidc
from kvstore.values import OWNED, PUBLIC, check_permissions

_NEEDED = ["exp", "iss", "aud"]
#: Tags of one user. A directory may know of thousands of groups.
_MOST = 500
#: Tokens that were checked, of which the users come again: each costs a fifth of a millisecond.
_KEPT = 1024
_MALFORMED = (jwt.PyJWTError, TypeError, ValueError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was checked, and by which key. It is known by its hash alone."""

    kid: str | None
    key: Any
    caller: Caller


class OidcAuthenticator(Authenticator):
    """Knows the tokens of one provider.

    A token must be signed by one of the provider's public keys, be meant for this server and have
    an end. Signatures with shared secrets, and none at all, are refused (RFC 8725 section 3.1).

    Args:
        reserved: tags that no claim gives: what is the store's own user's, and everybody's.
        clock: seconds since the epoch.
    """

    def __init__(
        self, oidc: Oidc, *, reserved: frozenset[str], clock: Callable[[], float] = time.time
    ) -> None:
        self._oidc = oidc
        self._reserved = reserved
        self._clock = clock
        self._keys = ProviderKeys(oidc.issuer)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def identify(self, bearer: str) -> Caller | None:
        if bearer.count(".") != 2:
            return None
        digest = hashlib.sha256(bearer.encode("latin-1")).digest()
        known = self._known.get(digest)
        kid = self._kid(bearer) if known is None else known.kid
        key = await self._keys.find(kid)
        if key is None:
            raise unauthenticated()
        # Looked up all the same, as keys are withdrawn and new ones fetched.
        if known is None or known.key is not key:
            known = _Known(kid, key, self._verified(bearer, key))
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        if not known.caller.holds():
            raise _expired()
        return known.caller

    def _kid(self, bearer: str) -> str | None:
        try:
            header = jwt.get_unverified_header(bearer)
        except _MALFORMED:
            raise unauthenticated() from None
        # Before a key is looked for: who asks for another algorithm makes us fetch nothing.
        if header.get("alg") not in self._oidc.algorithms:
            raise unauthenticated()
        kid: str | None = header.get("kid")
        return kid

    def _verified(self, bearer: str, key: Any) -> Caller:
        try:
            claims: dict[str, Any] = jwt.decode(
                bearer,
                key,
                algorithms=self._oidc.algorithms,
                audience=self._oidc.audience,
                issuer=self._oidc.issuer,
                leeway=self._oidc.leeway,
                options={"require": _NEEDED},
            )
            ends = float(claims["exp"]) + self._oidc.leeway
        except jwt.ExpiredSignatureError:
            raise _expired() from None
        except _MALFORMED:
            raise unauthenticated() from None
        user = self._user(claims)
        tags = frozenset({user, PUBLIC, *self._tags(claims)})
        try:
            check_permissions({OWNED: tags}, complete=True)
        except InvalidPermissionsError:
            raise unauthenticated() from None
        return Caller(user, user, tags, self._scopes(claims), lambda: self._clock() < ends)

    def _user(self, claims: Mapping[str, Any]) -> str:
        name = self._oidc.user_claim
        user = _claim(claims, name)
        # An address that nobody has verified is whatever somebody typed.
        is_verified = name != "email" or claims.get("email_verified") is True
        if not isinstance(user, str) or not user or not is_verified:
            raise unauthenticated()
        tag = f"{self._oidc.prefix}{user}"
        if tag in self._reserved:
            raise unauthenticated()
        return tag

    def _tags(self, claims: Mapping[str, Any]) -> list[str]:
        if self._oidc.tags_claim is None:
            return []
        found = _words(_claim(claims, self._oidc.tags_claim))
        tags = [f"{self._oidc.prefix}{word}" for word in found[:_MOST]]
        return [tag for tag in tags if tag not in self._reserved]

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        words: dict[Scope, str | None] = {
            "read": self._oidc.read_scope,
            "write": self._oidc.write_scope,
            "metrics": self._oidc.metrics_scope,
        }
        if not any(words.values()):
            return frozenset({"read", "write"})
        told = _words(_claim(claims, self._oidc.scope_claim))
        return frozenset(scope for scope, word in words.items() if word and word in told)


def _expired() -> AuthenticationError:
    return AuthenticationError("The token has expired.")


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name; with dots in it also one within another: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _words(value: Any) -> list[str]:
    """What is a list, or a text with spaces between (RFC 8693 section 4.2)."""
    if isinstance(value, str):
        return value.split()
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
