"""What was in step when it was looked at last, remembered at the destination.

The keys ``.sync/<name>/k<hex>`` hold it, in order: each the entries from the text that its name
spells in hexadecimal up to that of the next one. Its data is a line of JSON for each key that
travelled: ``[key, what it was at the source, what it was at the destination]``, the revisions where
the stores have such; a fourth member says that it is not simply in step. So it is read in the order
of the keys, beside the records; a change touches one of these keys; and each is written as one, so
that whoever is killed leaves no half of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from kvstore.documents import dump_json, parse_json
from kvstore.errors import (
    ConflictError,
    DamagedError,
    InvalidRequestError,
    KeyNotFoundError,
    TooLargeError,
)
from kvstore.replication.rules import RESERVED
from kvstore.store import Store

#: Entries to a shard; it is parted when it has half as many again.
_SHARD = 1000
#: Bytes of a shard at most, which is read as a whole: keys have 1,024 bytes.
_LARGEST = 16 << 20
#: Shards that are kept at hand.
_AT_HAND = 4
#: Characters of the text that a shard begins with: its name is four times as long at least.
_LONGEST = 200
#: How often a shard is written anew that another run has written meanwhile.
_TRIES = 10
_KIND = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that was in step: its stamps on both sides then, see `stamps`."""

    key: str
    source: str
    #: None: it was not there.
    there: str | None
    #: Whether what is there is somebody else's, who was told to win: it is not to be overwritten
    #: when the source changes again.
    is_theirs: bool = False
    #: The digest of what was about to be sent, ``""`` where it was not known; None: what was begun
    #: is done. Who finds this was killed, and may find what he sent under a revision he never saw.
    begun: str | None = None

    def line(self) -> bytes:
        """Return it as it is kept."""
        flag = True if self.is_theirs else self.begun
        facts = [self.key, self.source, self.there]
        return dump_json(facts if flag is None else [*facts, flag]) + b"\n"


class State:
    """What is known of one source. Not thread-safe.

    Args:
        store: where it is kept.
        name: what the source is called.

    Raises:
        StoreError: it cannot be read.
    """

    def __init__(self, store: Store, name: str) -> None:
        #: Where it is kept.
        self.store = store
        self._prefix = f"{RESERVED}{name}/k"
        self._is_conditional = bool(store.info()["conditional"])
        self._shards: OrderedDict[str, _Shard] = OrderedDict()
        self._bounds: list[str] = []
        self.reload()

    def reload(self) -> None:
        """Forget what was not saved, and look again what there is."""
        self._shards.clear()
        names = (key.removeprefix(self._prefix) for key in self._keys())
        found = sorted({bound for name in names if (bound := _bound_of(name)) is not None})
        self._bounds = found if found[:1] == [""] else ["", *found]

    def _keys(self) -> Iterator[str]:
        return iter(self.store.query_keys(prefix=self._prefix))

    def get(self, key: str) -> Entry | None:
        """Return what is known of *key*."""
        return self._shard_of(key).entries.get(key)

    def put(self, entry: Entry) -> None:
        """Remember it, as soon as it is saved."""
        self._shard_of(entry.key).change(entry.key, entry)

    def forget(self, key: str) -> None:
        """Know nothing of *key* any more, as soon as that is saved."""
        shard = self._shard_of(key)
        if key in shard.entries:
            shard.change(key, None)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield what is known of the keys that begin with *prefix*, in their order.

        What has been yielded may be changed meanwhile.
        """
        place = prefix
        while True:
            number = bisect_right(self._bounds, place) - 1
            end = self._bounds[number + 1] if number + 1 < len(self._bounds) else None
            for key in sorted(self._shard_of(place).entries):
                if key >= place and key.startswith(prefix):
                    entry = self.get(key)
                    if entry is not None:
                        yield entry
            if end is None or (end > prefix and not end.startswith(prefix)):
                return
            place = end

    def save(self) -> None:
        """Write what was changed.

        Raises:
            StoreError: it cannot be written; the error names the key.
        """
        for _ in range(_TRIES):
            changed = sorted(bound for bound, shard in self._shards.items() if shard.changed)
            try:
                for bound in changed:
                    self._write(self._shards[bound])
            except (ConflictError, KeyNotFoundError):
                self._take_in()
            else:
                return
        raise ConflictError(f"Others keep writing {self._prefix!a}.", key=self._prefix)

    def _take_in(self) -> None:
        """Read what another run of the same source has written, and put this one's upon it."""
        shards = self._shards.values()
        mine = [(key, shard.entries.get(key)) for shard in shards for key in shard.changed]
        self.reload()
        for key, entry in mine:
            self._shard_of(key).change(key, entry)

    def _write(self, shard: _Shard) -> None:
        if len(shard.entries) > _SHARD * 3 // 2:
            self._part(shard)
        data = b"".join(shard.entries[key].line() for key in sorted(shard.entries))
        conditional = self._is_conditional
        shard.revision = self.store.set_data(
            self._key_of(shard.bound),
            data,
            mimetype=_KIND,
            if_match=shard.revision if conditional else None,
            if_none_match="*" if conditional and shard.revision is None else None,
        )
        shard.changed.clear()

    def _part(self, shard: _Shard) -> None:
        """Give the entries behind the first 1,000 a shard of their own, which is written first."""
        keys = sorted(shard.entries)
        bound = _between(keys[_SHARD - 1], keys[_SHARD])
        if len(bound) > _LONGEST or bound in self._bounds:
            return
        self._make_room()
        more = self._shards[bound] = _Shard(bound)
        more.entries = {key: shard.entries.pop(key) for key in keys[_SHARD:]}
        more.changed = {key for key in shard.changed if key >= bound} or {keys[-1]}
        shard.changed -= more.changed
        self._bounds.insert(bisect_right(self._bounds, bound), bound)
        self._write(more)

    def _shard_of(self, key: str) -> _Shard:
        bound = self._bounds[bisect_right(self._bounds, key) - 1]
        shard = self._shards.get(bound)
        if shard is None:
            self._make_room()
            shard = self._shards[bound] = self._loaded(bound)
        self._shards.move_to_end(bound)
        return shard

    def _make_room(self) -> None:
        for bound in [b for b, shard in self._shards.items() if not shard.changed][: 1 - _AT_HAND]:
            del self._shards[bound]

    def _loaded(self, bound: str) -> _Shard:
        shard = _Shard(bound)
        name = self._key_of(bound)
        try:
            value = self.store.get(name)
        except KeyNotFoundError:
            return shard
        with closing(value):
            if value.size > _LARGEST:
                raise TooLargeError(f"{name!a} has {value.size} bytes; it is no state.", key=name)
            data = value.read()
        shard.revision = value.revision
        number = bisect_right(self._bounds, bound)
        end = self._bounds[number] if number < len(self._bounds) else None
        for line in data.splitlines():
            entry = _parsed(line, name)
            # Who was killed while he parted a shard left some twice: those of the next one count.
            if end is None or entry.key < end:
                shard.entries[entry.key] = entry
        return shard

    def _key_of(self, bound: str) -> str:
        return f"{self._prefix}{bound.encode().hex()}"


class _Shard:
    """Some entries, those at the store and those that will be there."""

    __slots__ = ("bound", "changed", "entries", "revision")

    def __init__(self, bound: str) -> None:
        self.bound = bound
        self.entries: dict[str, Entry] = {}
        self.changed: set[str] = set()
        self.revision: str | None = None

    def change(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
        self.changed.add(key)


def _between(before: str, key: str) -> str:
    """Return the shortest text that is behind *before* and not behind *key*."""
    length = next(
        (n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), len(before)
    )
    return key[: length + 1]


def _bound_of(name: str) -> str | None:
    try:
        return bytes.fromhex(name).decode()
    except ValueError:
        return None  # nobody knows who put it there


def _parsed(line: bytes, name: str) -> Entry:
    try:
        document = parse_json(line, what="line of the state")
    except InvalidRequestError as error:
        raise DamagedError(f"{name!a} is no state: {error.message}", key=name) from error
    match document:
        case [str(key), str(source), (str() | None) as there]:
            return Entry(key, source, there)
        case [str(key), str(source), (str() | None) as there, True]:
            return Entry(key, source, there, is_theirs=True)
        case [str(key), str(source), (str() | None) as there, str(begun)]:
            return Entry(key, source, there, begun=begun)
    raise DamagedError(f"{name!a} is no state: it has the line {line!r:.100}.", key=name)
