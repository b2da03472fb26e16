"""What a source is called where it is remembered, so that the next run knows it again."""

from __future__ import annotations

import platform
import re
import secrets
import threading
import weakref

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import dump_json
from kvstore.errors import StoreError
from kvstore.hashing import sha256
from kvstore.readonly import ReadOnlyStore

_lock = threading.Lock()
_tokens: weakref.WeakKeyDictionary[ReadOnlyStore, str] = weakref.WeakKeyDictionary()
_UNFIT = re.compile(r"[^A-Za-z0-9]+")


def name_of(
    source: ReadOnlyStore, destination: ReadOnlyStore, memory: ReadOnlyStore | None = None
) -> str:
    """Return the name of *source*: its URL, or machine and folder, as words and a hash.

    The users are part of the hash: another user of the source sees other keys, and what he does
    not see he must not take for deleted. So is the destination, where another store, *memory*,
    remembers. A store that lives in memory is known as long as it does.
    """
    place = _place_of(source)
    facts = [place, _user_of(source), _user_of(destination)]
    if memory is not None:
        facts.append(_place_of(destination))
    told = sha256(dump_json(facts))
    words = _UNFIT.sub("-", place.partition("://")[2] or place).strip("-")[-40:].strip("-")
    return f"{words or 'source'}-{told.removeprefix('sha256:')[:12]}"


def _place_of(store: ReadOnlyStore) -> str:
    parts = getattr(store, "_parts", None)
    if parts:
        return " ".join([type(store).__name__, *map(_place_of, parts)])
    url = store.info().get("url")
    if url is not None:
        return str(url)
    root = getattr(store, "_root", None)
    if root is not None:
        return f"{platform.node()}:{root}"
    with _lock:
        return f"{type(store).__name__} {_tokens.setdefault(store, secrets.token_hex(8))}"


def _user_of(store: ReadOnlyStore) -> str | None:
    if not isinstance(store, AuthorizingStore):
        return None
    try:
        return store.user_tag()
    except StoreError:
        return None
