"""Stores from URLs: ``memory:``, ``sqlite:PATH``, ``file:PATH``, ``http(s)://…``, ``vos://…``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kvstore.authorizing import AuthorizingStore
from kvstore.errors import InvalidRequestError
from kvstore.stores._vospace import SCHEMES as VOSPACES
from kvstore.stores._vospace import located
from kvstore.stores.dynamic_url import BearerAuth, DynamicURLStore, profile_of_vospace
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore


def open_store(
    url: str, credentials: Any = None, *, token: str | None = None, **options: Any
) -> AuthorizingStore:
    """Return the store at *url*, connected. Use it in a ``with`` statement to disconnect it.

    ==========================  ===============================================================
    ``memory:``                 a new `MemoryStore`
    ``sqlite:PATH``             a `SQLiteStore` in that folder, made if it is missing;
                                ``sqlite:data``, ``sqlite:/srv/data``, ``sqlite:///srv/data``
    ``file:PATH``               a `FileSystemStore` in that folder, spelled in the same ways
    ``http://…``, ``https://…`` the `DynamicURLStore` that the server's service document
                                describes (``/.well-known/kvstore`` of that host)
    ``vos+http://…``,           the VOSpace service at that URL, whose capabilities are at
    ``vos+https://…``           ``URL/capabilities``
    ``vos://AUTHORITY/PATH``    a container of the VOSpace that registries call so; see ``registry``
    ==========================  ===============================================================

    With ``profile=`` an ``http`` URL is the base URL of a server that the profile describes.

    Args:
        credentials: as for the ``connect`` of the store's class.
        token: in place of these, the token that a server asks for.
        options: keyword arguments of the store's class; for ``vos://`` also ``registry``, the path
            of a file of lines ``ivo://AUTHORITY/NAME = URL of its capabilities``. Without it that
            is named by ``KVSTORE_VOSPACE_REGISTRY``, or is the one that the client of CADC keeps.

    Raises:
        InvalidRequestError: a URL of no such form, or a token that is none or is for no server.
        TransportError: the server does not answer, or with no service document.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"A store URL is a str, not {url!r:.100}.")
    scheme = url.partition(":")[0].lower()
    if scheme in VOSPACES:
        base, told = located(url, options.pop("registry", None))
        options["profile"] = profile_of_vospace(options.get("profile"), told)
        url, scheme = base, "http"
    if token is not None:
        credentials = _of_token(token, scheme, credentials, options)
    if scheme in ("http", "https") and options.get("profile") is not None:
        described = DynamicURLStore(url, **options)
        described.connect(credentials)
        return described
    if scheme in ("http", "https"):
        options.pop("profile", None)
        return DynamicURLStore.discover(url, credentials, **options)
    store: AuthorizingStore
    if url == "memory:":
        store = MemoryStore(**options)
    elif scheme == "sqlite":
        store = SQLiteStore(folder_of(url), **options)
    elif scheme == "file":
        store = FileSystemStore(folder_of(url), **options)
    else:
        shown = url.rpartition("@")[2]  # what stands before it may be a password
        known = "memory:, sqlite:PATH, file:PATH, http(s)://HOST or vos://…"
        raise InvalidRequestError(f"A store URL is {known}, not {shown!r:.100}.")
    store.connect(credentials)
    return store


def _of_token(token: str, scheme: str, credentials: Any, options: dict[str, Any]) -> Any:
    if scheme not in ("http", "https"):
        raise InvalidRequestError("A token is for a server; this store is on this machine.")
    if credentials is not None:
        raise InvalidRequestError("A token is given in place of credentials, not beside them.")
    if options.get("profile") is not None:
        return None, token  # sent in the header that the profile names
    if not token or not (token.isascii() and token.isprintable()):
        raise InvalidRequestError("A token is printable ASCII text; this one is not.")
    return None, BearerAuth(token)


def folder_of(url: str) -> Path:
    """Return the folder that a URL ``sqlite:PATH`` or ``file:PATH`` names.

    Raises:
        InvalidRequestError: it names none of this machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise InvalidRequestError(f"That names no folder of this machine: {url!r:.100}.")
    # With slashes it is a URL (RFC 8089), percent-encoded; `file:data` is how people type a path.
    path = url.partition(":")[2]
    return Path(unquote(parts.path) if path.startswith("//") else path)
