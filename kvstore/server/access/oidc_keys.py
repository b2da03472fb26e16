"""The public keys of an OpenID provider: fetched when they are needed, and seldom."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from kvstore.documents import parse_object
from kvstore.errors import InvalidRequestError, UnavailableError

#: OpenID Connect Discovery 1.0, section 4.
_DISCOVERY = "/.well-known/openid-configuration"
#: Seconds between two fetches, whoever asks for keys that nobody has; and after which keys are
#: fetched again though none is missing, so that one that was withdrawn is not taken for ever.
_PAUSE = 30.0
_AGE = 3600.0
#: Seconds that old keys are taken while the provider does not answer.
_LONGEST = 24 * 3600.0
#: Seconds for one document, and bytes of it.
_TIMEOUT = 5.0
_MOST = 1 << 20
#: Public keys; one of the type ``oct`` would be a shared secret.
_TYPES = ("RSA", "EC", "OKP")
_RSA_BITS = 2048

_log = logging.getLogger("kvstore.server")


class ProviderKeys:
    """The keys by which the tokens of a provider are checked. Lives on the event loop.

    Args:
        issuer: URL of the provider.
        clock: seconds, from any beginning.
    """

    def __init__(self, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str | None, Any] = {}
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> Any:
        """Return the key of that name, None if there is none.

        Raises:
            UnavailableError: there are no keys, as the provider does not answer.
        """
        if kid not in self._keys or self._clock() - self._fetched > _AGE:
            await self._fetch()
        if self._clock() - self._fetched > _LONGEST:
            message = "The OpenID provider does not answer, so its tokens cannot be checked now."
            raise UnavailableError(message, retry_after=_PAUSE)
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        async with self._fetching:
            if self._clock() - self._tried < _PAUSE:
                return
            self._tried = self._clock()
            try:
                self._keys = await asyncio.to_thread(_fetched, self._issuer)
            except (requests.RequestException, InvalidRequestError, OSError) as error:
                _log.warning("The keys of %a cannot be fetched: %s", self._issuer, error)
            else:
                self._fetched = self._clock()


def _fetched(issuer: str) -> dict[str | None, Any]:
    with requests.Session() as session:
        about = _document(session, issuer.rstrip("/") + _DISCOVERY)
        if about.get("issuer") != issuer:  # section 4.3: else one could speak for another
            raise InvalidRequestError(f"It is {about.get('issuer')!r:.200} that is described there")
        address = about.get("jwks_uri")
        is_safe = isinstance(address, str) and address.startswith(
            "https://" if issuer.startswith("https://") else ("http://", "https://")
        )
        if not is_safe:
            raise InvalidRequestError(f"Its keys are at no https URL: {address!r:.200}")
        found = _document(session, str(address)).get("keys")
    keys: dict[str | None, Any] = {}
    for each in found if isinstance(found, list) else ():
        key = _key(each)
        if key is not None:
            name = each.get("kid")
            keys[name if isinstance(name, str) else None] = key
    if len(keys) == 1:  # a token that names no key can mean this one only
        keys[None] = next(iter(keys.values()))
    return keys


def _key(document: Any) -> Any:
    """The public key in a JWK (RFC 7517), None for one that checks no signatures."""
    if not isinstance(document, dict) or document.get("kty") not in _TYPES:
        return None
    if document.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(document).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # one that is odd spoils no other
        return None
    return None if isinstance(key, RSAPublicKey) and key.key_size < _RSA_BITS else key


def _document(session: requests.Session, url: str) -> dict[str, Any]:
    deadline = time.monotonic() + _TIMEOUT
    with session.get(url, timeout=_TIMEOUT, stream=True, allow_redirects=False) as answer:
        if answer.status_code != 200:
            raise InvalidRequestError(f"{url:.200} answers {answer.status_code}")
        text = bytearray()
        for piece in answer.iter_content(1 << 16):
            text += piece
            if len(text) > _MOST or time.monotonic() > deadline:
                raise InvalidRequestError(f"{url:.200} is too long, or takes too long")
    return parse_object(bytes(text), what="document of the provider")
