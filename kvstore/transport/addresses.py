"""URLs of servers: what may be shown of them, and whether two are of the same origin."""

from __future__ import annotations

from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from requests.auth import HTTPBasicAuth

from kvstore.errors import InvalidRequestError

_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return scheme, host and port of *url* in one spelling (RFC 6454), to compare by.

    User and password count: a URL that holds some is never of the origin of one that does not.

    Raises:
        ValueError: *url* is malformed.
    """
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    userinfo, at, _ = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{userinfo}{at}{parts.hostname}:{port}"


def root_of(url: str) -> str:
    """Return what *url* has before its path, as it is written there."""
    parts = urlsplit(url)
    return f"{url[: len(parts.scheme)]}://{parts.netloc}"


def shown_url(url: str) -> str:
    """Return *url* without user, password and query: what may stand in a message or a log."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def joined(url: str, reference: str) -> str | None:
    """Return the URL that *reference*, found at *url*, names; None if that is none."""
    try:
        target = urldefrag(urljoin(url, reference)).url
        origin_of(target)
    except ValueError:
        return None
    return target


def without_userinfo(url: str) -> tuple[str, HTTPBasicAuth | None]:
    """Return the URL of a server without user and password, and these.

    Raises:
        InvalidRequestError: no such URL; what stands before the host is not shown.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"A URL is a str, not {url!r:.100}.")
    shown = url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        origin_of(url)
    except ValueError as error:
        raise InvalidRequestError(f"That is no URL ({error}): {shown!r:.100}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise InvalidRequestError(f"A base or query URL is http(s)://host/…, not {shown!r:.100}.")
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), HTTPBasicAuth(unquote(user), unquote(password))
