"""Requests of a client of resumable uploads, each on a connection of its own."""

from __future__ import annotations

import time
from base64 import b64encode
from urllib.parse import urljoin

from tests.server.sockets import Answer, ask

DATA = bytes(range(256)) * 2000
TUS = "Tus-Resumable: 1.0.0"
PART = "Content-Type: application/offset+octet-stream"
VALUE = {"metadata": {"n": 1}, "permissions": {"owned": ["me"]}, "mimetype": "image/png"}


def base64(data: bytes | str) -> str:
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def named(key: str = "a", **more: str | bytes) -> str:
    """The header line that names a key, and more."""
    pairs = {"key": key, **more}
    return "Upload-Metadata: " + ",".join(f"{name} {base64(text)}" for name, text in pairs.items())


def begin(url: str, length: int = len(DATA), *lines: str, key: str = "a") -> str:
    """Begin an upload; return the path of its URL."""
    lines = lines or (named(key),)
    answer = ask(url, "POST", "/uploads", TUS, f"Upload-Length: {length}", *lines)
    assert answer.status == 201, answer
    return urljoin("/uploads", answer.headers["Location"])


def patch(url: str, path: str, offset: int, data: bytes, *lines: str) -> Answer:
    return ask(url, "PATCH", path, TUS, PART, f"Upload-Offset: {offset}", *lines, body=data)


def head(url: str, path: str) -> Answer:
    return ask(url, "HEAD", path, TUS)


def offset_of(url: str, path: str) -> int:
    answer = head(url, path)
    assert answer.status == 200
    return int(answer.headers["Upload-Offset"])


def finish(url: str, path: str, data: bytes, *lines: str) -> Answer:
    """Send the rest of *data*, as often as the server is busy with what came before."""
    end = time.monotonic() + 60
    while True:
        offset = offset_of(url, path)
        answer = patch(url, path, offset, data[offset:], *lines)
        if answer.status == 204:
            return answer
        assert answer.status in (409, 423)
        assert time.monotonic() < end
