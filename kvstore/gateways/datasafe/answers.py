"""Answers in plain text."""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.server.answers import NO_STORE, SAFE, Field, Reply, length_field


def text_reply(status: int, text: str, fields: Iterable[Field] = ()) -> Reply:
    """Return plain text as an answer."""
    body = text.encode()
    own = [(b"content-type", b"text/plain; charset=utf-8"), length_field(len(body))]
    return Reply(status, [*own, NO_STORE, *SAFE, *fields], body)
