"""What ``connect`` of a store on a server takes."""

from __future__ import annotations

from typing import Any

import requests
from requests.auth import AuthBase

from kvstore.errors import InvalidRequestError
from kvstore.profiles.profile import Auth, Profile
from kvstore.transport.sender import BearerAuth


class HeaderAuth(AuthBase):
    """A secret in a header of its own, such as ``X-Api-Key``. Never shows it."""

    def __init__(self, header: str, secret: str) -> None:
        self._header = header
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._header] = self._secret
        return request

    def __repr__(self) -> str:
        return f"HeaderAuth({self._header!r}, <secret>)"


def parsed_credentials(
    credentials: Any, profile: Profile | None = None
) -> tuple[str | None, requests.Session | None, AuthBase | None]:
    """Return the user's tag, session and authentication, each None where it is not given.

    Raises:
        InvalidRequestError: they are no such pair; what they are is not shown.
    """
    match credentials:
        case None:
            return None, None, None
        case (None | str() as tag, None | requests.Session() as session):
            return tag, session, None
        case (None | str() as tag, AuthBase() as auth):
            return tag, None, auth
        case (None | str() as tag, str() as secret) if profile is not None and profile.auth:
            return tag, None, auth_of(secret, profile.auth)
    # Not shown: it may well hold a secret.
    message = "The credentials are None or (user_tag, requests.Session or requests auth object)"
    if profile is not None and profile.auth:
        message += " or (user_tag, token)"
    raise InvalidRequestError(f"{message}.")


def auth_of(secret: str, rules: Auth) -> AuthBase:
    """Return what sends a secret in the header that a profile names.

    Raises:
        InvalidRequestError: no header can carry it; it is not shown.
    """
    if not secret or not (secret.isascii() and secret.isprintable()):
        raise InvalidRequestError("A token is printable ASCII text; this one is not.")
    if (rules.header.lower(), rules.prefix) == ("authorization", "Bearer "):
        return BearerAuth(secret)
    return HeaderAuth(rules.header, f"{rules.prefix}{secret}")
