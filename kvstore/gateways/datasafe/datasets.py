"""A dataset as it lies in the store: a key of its own name, and one below it for each file.

The key of its own name says that the number is taken, and what is being done with the dataset. The
files are keys like all others, so that every client sees them, and may change them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from kvstore.documents import JsonObject
from kvstore.errors import TooLargeError, UnavailableError
from kvstore.gateways.datasafe.archives import is_name
from kvstore.gateways.datasafe.lois import Loi
from kvstore.query import Query
from kvstore.server.answers import Refusal
from kvstore.server.site import Site
from kvstore.values import Record

#: The field of metadata that holds what this protocol has to say of a key.
FIELD = "datasafe"
#: Files of a dataset that are sent as one archive.
_MOST = 100_000
_TRIES = 10
#: What is said of each file, and how long each of it may be.
_FACTS = {"loi", "role"}
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Dataset:
    """What there is under an identifier."""

    loi: Loi
    #: The key of its own name; None where files were put there without one.
    record: Record | None
    #: Its files, in the order of their names.
    members: tuple[Record, ...]

    @property
    def exists(self) -> bool:
        """Whether it has files, or its number is taken."""
        return self.record is not None or bool(self.members)

    @property
    def facts(self) -> JsonObject:
        """What is written down of it."""
        facts = self.record.metadata.get(FIELD) if self.record is not None else None
        return facts if isinstance(facts, dict) else {}

    @property
    def upload(self) -> str | None:
        """The name of the upload that has begun to change it and was not brought to its end."""
        name = self.facts.get("upload")
        return name if isinstance(name, str) else None

    def seconds_left(self) -> float:
        """Return for how long that upload may still be going on."""
        until = self.facts.get("until")
        return until - time.time() if isinstance(until, int | float) else 0.0

    def name_of(self, record: Record) -> str:
        """Return the name of one of its files."""
        return record.key.removeprefix(f"{self.loi}/")

    def as_record(self) -> Record | None:
        """Return it as if it were one key, for conditional requests; None where it has no files."""
        if not self.members:
            return None
        tag: str | None = None
        if all(record.revision is not None for record in self.members):
            digest = hashlib.sha256()
            for record in self.members:
                digest.update(f"{len(record.key)} {record.key} {record.revision}\n".encode())
            tag = digest.hexdigest()[:32]
        times = [record.modified for record in self.members if record.modified is not None]
        size = sum(record.size for record in self.members)
        modified = max(times, default=None)
        return Record(str(self.loi), {}, size, modified=modified, revision=tag)

    def check_whole(self) -> None:
        """Refuse to show what is being changed, in a store that cannot hide that.

        Raises:
            UnavailableError: an upload is going on.
            Refusal: one was cut off (409), so that old and new files may lie side by side.
        """
        if self.upload is None:
            return
        left = self.seconds_left()
        if left > 0:
            raise UnavailableError("The dataset is being changed.", retry_after=min(left, 5.0))
        raise Refusal(409, "An upload of this dataset was cut off; it has to be uploaded again.")


def find_dataset(site: Site, loi: Loi) -> Dataset:
    """Return a dataset as it was at one moment, as far as the caller may see it.

    Raises:
        UnavailableError: it is changed again and again.
        TooLargeError: it has more files than fit into one archive.
    """
    for _ in range(_TRIES):
        record = site.find(str(loi))
        found = site.records(Query(prefix=f"{loi}/"))
        members = tuple(islice(_members(loi, found), _MOST + 1))
        if len(members) > _MOST:
            raise TooLargeError(f"The dataset has more than {_MOST} files.")
        after = site.find(str(loi))
        if _revision(record) == _revision(after):
            return Dataset(loi, record, members)
    raise UnavailableError("The dataset is being changed.", retry_after=1.0)


def _members(loi: Loi, records: Iterable[Record]) -> Iterator[Record]:
    """Yield those keys below a dataset that are files of it, without what nobody asks of many.

    Any client makes keys, also such as would lie outside the folder that an archive is unpacked in.
    The metadata of each may have a megabyte.
    """
    for record in records:
        name = record.key.removeprefix(f"{loi}/")
        if is_name(name.removesuffix("/")):
            yield replace(record, metadata=_short(record.metadata), permissions=None)


def _short(metadata: JsonObject) -> JsonObject:
    facts = metadata.get(FIELD)
    if not isinstance(facts, dict) or not facts.keys() <= _FACTS:
        return {}
    is_short = all(isinstance(text, str) and len(text) <= _LONGEST for text in facts.values())
    return {FIELD: facts} if is_short else {}


def reservation(loi: Loi) -> dict[str, Any]:
    """Return what is written down of a dataset that has no files yet, or has all of them."""
    return {"loi": str(loi), "number": loi.number}


def _revision(record: Record | None) -> str | None:
    return None if record is None else record.revision
