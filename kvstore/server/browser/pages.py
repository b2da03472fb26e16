"""The files that the data browser is made of, as answers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from kvstore.server.answers import (
    NOSNIFF,
    REVALIDATE,
    Field,
    NotAllowedError,
    Reply,
    length_field,
)
from kvstore.server.exchange import Exchange
from kvstore.server.paths import BROWSER_PATH

_PAGE = "index.html"
_METHODS = "GET, HEAD, OPTIONS"
_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
# Names and metadata are anybody's text: if the page ever took one for markup, nothing of it would
# run, load or leave. `blob:` is for images that were fetched with the credentials of the user.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_FIELDS: tuple[Field, ...] = (
    NOSNIFF,
    REVALIDATE,
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Page:
    """One file. It is the same for everybody, signed in or not."""

    body: bytes
    media_type: bytes
    etag: str

    def reply(self, exchange: Exchange) -> Reply:
        """Answer GET and HEAD: 200, or 304 for who has it.

        Raises:
            NotAllowedError: another method.
        """
        if exchange.method == "OPTIONS":
            return Reply(204, [(b"allow", _METHODS.encode())])
        if exchange.method not in ("GET", "HEAD"):
            raise NotAllowedError(exchange.method, _METHODS)
        fields = [*_FIELDS, (b"etag", self.etag.encode())]
        if self.etag in exchange.lines(b"if-none-match"):
            return Reply(304, fields)
        kind = (b"content-type", self.media_type)
        return Reply(200, [*fields, kind, length_field(len(self.body))], self.body)


@functools.cache
def pages() -> dict[str, Page]:
    """Return the files by their paths on the server. Read once in a process.

    The page is at ``/``. The URLs in it are relative, so that it works below any path.
    """
    assets = files(__package__) / "assets"
    found = {f"{BROWSER_PATH}/{name}": _page(name, body) for name, body in _read(assets, "")}
    found["/"] = found.pop(f"{BROWSER_PATH}/{_PAGE}")
    return found


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif name.rpartition(".")[2] in _TYPES:
            yield name, entry.read_bytes()


def _page(name: str, body: bytes) -> Page:
    digest = hashlib.sha256(body).hexdigest()
    return Page(body, _TYPES[name.rpartition(".")[2]], f'"{digest[:32]}"')
