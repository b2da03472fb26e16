"""A server whose callers are told apart, and those who call it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvstore.server import Gateway, serve_background
from kvstore.server.access.callers import Access
from kvstore.server.access.token_access import TokenAuthenticator
from kvstore.server.access.tokens import Tokens
from kvstore.server.limits import Limits
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.server.sockets import Answer, ask


@dataclass
class Lab:
    """A server at *url* over *store*, and the tokens of its users by their names."""

    url: str
    store: MemoryStore | SQLiteStore
    tokens: Tokens
    known: dict[str, str] = field(default_factory=dict)

    def token(self, name: str, **options: Any) -> str:
        """Return the token of that name, made if it is new."""
        if name not in self.known:
            self.known[name] = self.tokens.create(name, **options)[1]
        return self.known[name]

    def line(self, name: str) -> str:
        """Return the header field with the token of that name."""
        return f"Authorization: Bearer {self.token(name)}"

    def ask(
        self, name: str | None, method: str, target: str, *lines: str, body: bytes = b""
    ) -> Answer:
        """Send a request with the token of that name, None: without."""
        if name is not None:
            lines = (self.line(name), *lines)
        return ask(self.url, method, target, *lines, body=body)

    def put(self, name: str, key: str, data: bytes = b"data") -> None:
        """Make a key, or change its data."""
        assert self.ask(name, "PUT", f"/keys/{key}/data", body=data).status in (201, 204)


def authenticator(tokens: Tokens) -> TokenAuthenticator:
    """Return one that looks at the file each time: a second passes between two looks."""
    seconds = itertools.count(1.0)
    return TokenAuthenticator(tokens, monotonic=lambda: next(seconds))


@contextlib.contextmanager
def lab_of(
    store: MemoryStore | SQLiteStore,
    folder: Path,
    *,
    limits: Limits | None = None,
    gateways: Iterable[Gateway] = (),
    **options: Any,
) -> Iterator[Lab]:
    """Serve a store to whoever has a token."""
    tokens = Tokens(folder / "tokens.json")
    access = Access([authenticator(tokens)], **{"failures": 10**6, **options})
    served = serve_background(store, access=access, limits=limits, gateways=gateways)
    with store, served as url:
        yield Lab(url, store, tokens)
