"""Which names this server answers to, and from which pages: both keep other sites out.

A page of anybody's may let its own host name point to 127.0.0.1 (DNS rebinding), or send forms
and simple requests to a server on the visitor's machine. The browser tells both.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from kvstore.errors import AuthorizationError, InvalidRequestError
from kvstore.server.exchange import Exchange

#: The names of this machine to itself.
LOCAL = ("localhost", "127.0.0.1", "[::1]")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Hosts:
    """The allowed values of ``Host``: names with any port, ``name:port``, or ``*`` for all.

    Raises:
        InvalidRequestError: an entry that no ``Host`` could equal.
    """

    def __init__(self, names: Iterable[str]) -> None:
        entries = [names] if isinstance(names, str) else list(names)
        self._any = "*" in entries
        self._names = {_entry(name) for name in entries if name != "*"}
        self._host = functools.lru_cache(maxsize=256)(self._checked)

    def check(self, exchange: Exchange) -> None:
        """Refuse a request that is for another host, or that another site's page sends.

        Raises:
            InvalidRequestError: the ``Host`` is missing, repeated, malformed or not allowed.
            AuthorizationError: the page of another site wants to change something.
        """
        lines = exchange.lines(b"host")
        # HTTP/1.0 needs none (RFC 9112 section 3.2), and no browser speaks it: probes do.
        is_old = exchange.scope["http_version"] == "1.0"
        if len(lines) != 1 and not (is_old and not lines):
            raise InvalidRequestError(f"A request has one Host field, not {len(lines)}.")
        host = self._host(lines[0]) if lines else ""
        if exchange.method not in _READS:
            _check_origin(exchange, host)

    def knows(self, value: bytes | None) -> bool:
        """Whether :meth:`check` lets a request to read with this one ``Host`` pass."""
        try:
            return value is not None and bool(self._host(value.decode("latin-1")))
        except InvalidRequestError:
            return False

    def _checked(self, text: str) -> str:
        found = _HOST.fullmatch(text)
        if found is None:
            raise InvalidRequestError(f"{text!r:.100} is no Host.")
        host = text.lower()
        if not self._any and found[1].lower() not in self._names and host not in self._names:
            raise InvalidRequestError(f"This server does not answer to the name {text!r:.100}.")
        return host


def _check_origin(exchange: Exchange, host: str) -> None:
    site = exchange.single(b"sec-fetch-site")
    origin = exchange.single(b"origin")
    is_foreign = site not in (None, "same-origin", "none") or (
        origin is not None and origin.lower().partition("://")[2] != host
    )
    if is_foreign:
        whose = "other sites" if origin is None else f"{origin!r:.100}"
        raise AuthorizationError(f"The pages of {whose} may not change what is stored here.")


def _entry(name: str) -> str:
    # An address of IPv6 has colons of its own, and is written in brackets in URLs.
    text = f"[{name}]" if isinstance(name, str) and name.count(":") > 1 and name[0] != "[" else name
    if not isinstance(text, str) or not _HOST.fullmatch(text):
        raise InvalidRequestError(f"{name!r:.100} is no host name that a request could carry.")
    return text.lower()
