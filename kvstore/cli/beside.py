"""What a server keeps beside the data of a store: within its folder, under names it has no use for.

A server that begins anew finds there what the one before it left.
"""

from __future__ import annotations

from pathlib import Path

from kvstore.cli.arguments import url_in
from kvstore.opening import folder_of

DEFAULT_FOLDER = "./kvstore-data"
_UPLOADS = {"sqlite": "uploads", "file": ".kvstore/uploads"}
_TOKENS = {"sqlite": "tokens.json", "file": ".kvstore/tokens.json"}


def default_store() -> str:
    """Return the URL of the store that is served if none is named."""
    # Until SQLiteStore came it was a FileSystemStore: who has one there has data in it.
    there = url_in(Path(DEFAULT_FOLDER)) or "sqlite:"
    return f"{there.partition(':')[0]}:{DEFAULT_FOLDER}"


def uploads_folder(url: str) -> Path | None:
    """Return where uploads are kept that are not complete; None: the store is in no folder."""
    return _within(url, _UPLOADS)


def tokens_file(url: str) -> Path | None:
    """Return where the tokens of its server are kept; None: the store is in no folder."""
    return _within(url, _TOKENS)


def _within(url: str, names: dict[str, str]) -> Path | None:
    inside = names.get(url.partition(":")[0])
    return None if inside is None else folder_of(url).absolute() / inside
