"""Inputs that have broken stores and servers, kept in ``tests/data``, one JSON array a file."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

Entry: TypeAlias = dict[str, Any]

_DATA = Path(__file__).parent / "data"


def entries(name: str) -> Iterator[Entry]:
    """Yield the entries of a corpus: nasty_keys, nasty_metadata, ranges, conditionals, ..."""
    yield from json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))


def keys() -> Iterator[tuple[Entry, str]]:
    """Yield the entries of nasty_keys with their texts, many of which are no legal keys."""
    for entry in entries("nasty_keys"):
        if "repeat" in entry:
            text, times = entry["repeat"]
            yield entry, text * times
        else:
            # Lone surrogates, which UTF-8 does not have, are among the keys to be refused.
            yield entry, base64.b64decode(entry["b64"]).decode("utf-8", "surrogatepass")


def raw(entry: Entry) -> bytes:
    """Return the bytes of an entry: base64 in one piece, or pieces with repeat counts."""
    if "parts" in entry:
        return b"".join(base64.b64decode(piece) * times for piece, times in entry["parts"])
    return base64.b64decode(entry["b64"])
