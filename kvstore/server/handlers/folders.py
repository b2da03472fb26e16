"""Keys as folders: what stands at one level of the names, without reading what is below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from kvstore.keys import MAX_KEY_BYTES
from kvstore.query import Query, closing
from kvstore.values import Record

#: Records that are asked for at a time, at least and at most.
_FEWEST, _MOST = 2, 256
# No key is so long that it could begin with this and go on.
_LAST = "\U0010ffff" * (MAX_KEY_BYTES // 4)


@dataclass(frozen=True, slots=True)
class Folder:
    """All keys that begin alike, up to and with a delimiter."""

    #: What they begin with. It is no key; it has the name so that it can be a place in the order.
    key: str


#: What stands at one level.
Entry: TypeAlias = Record | Folder


def entries(
    query: Query, delimiter: str, find: Callable[[Query], Iterator[Record]]
) -> Iterator[Entry]:
    """Yield what a query finds, in the order of keys, with folders in place of what they hold.

    A folder is the part of a key up to the first *delimiter* behind the prefix of the query. It is
    told once, when a key within it is found, and then skipped by asking for what comes behind: a
    folder of a million keys costs as much as one of ten. The ``after`` of the query may be a key
    or a folder; one within a folder goes on behind that folder. Its ``limit`` has no meaning.

    Args:
        query: what to look for, in the order of keys.
        delimiter: the text that ends the name of a folder; not empty.
        find: gives what a query finds. What it does not find makes no folder.
    """
    after = _begin(query, delimiter)
    size = _FEWEST
    while True:
        found = given = 0
        folder: str | None = None
        for record in closing(find(replace(query, after=after, limit=size))):
            found, after = found + 1, record.key
            inside, folder = folder, folder_of(record.key, query.prefix, delimiter)
            if folder is None:
                yield record
            elif folder != inside:
                yield Folder(folder)
            else:
                continue
            given += 1
        if found < size:
            return
        if folder is not None:
            after = _end(folder)
        # Looks further ahead as long as that pays: many keys side by side are read in few pages.
        size = min(size * 2, _MOST) if given * 2 > found else max(size // 2, _FEWEST)


def folder_of(key: str, prefix: str, delimiter: str) -> str | None:
    """Return the folder that *key* is in at the level of *prefix*; None: it stands there itself."""
    place = key.find(delimiter, len(prefix))
    return None if place < 0 else key[: place + len(delimiter)]


def _begin(query: Query, delimiter: str) -> str | None:
    after = query.after
    if after is None or not after.startswith(query.prefix):
        return after
    folder = folder_of(after, query.prefix, delimiter)
    return after if folder is None else _end(folder)


def _end(folder: str) -> str:
    """A place behind all keys of a folder and before all others."""
    return folder + _LAST
