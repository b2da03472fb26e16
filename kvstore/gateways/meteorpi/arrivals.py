"""The data of files: what has arrived and is as it was sent, and how it is stored.

Data come before the record that describes them, so a file is *received* first, with its MD5 alone
in its metadata, and described when its event or its own record is complete. Beside the MD5 is the
store's digest of the same bytes: where these differ from those that are there now, somebody has
written others, and the MD5 says nothing of them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

from kvstore.errors import ConflictError, IntegrityError, KeyNotFoundError, TooLargeError
from kvstore.gateways.meteorpi.entities import FIELD, facts_of, file_key
from kvstore.gateways.meteorpi.multipart import FilePart
from kvstore.server.answers import Refusal
from kvstore.server.bodies import PIECE
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Record
from kvstore.writes import Change, Condition

Arrival: TypeAlias = Literal["missing", "received", "described"]


def arrival_of(site: Site, record: Record | None, md5: str) -> Arrival:
    """Tell how far the file of that key is; *missing*, too, if it may be received anew.

    Raises:
        Refusal: 409, other data are there, which are not of this protocol or are described.
        ConflictError: it was changed meanwhile.
    """
    if record is None:
        return "missing"
    facts = facts_of(record)
    if facts.get("type") == "file":
        if facts.get("md5") != md5:
            raise _taken(record, f"its MD5 is {facts.get('md5')!r:.50}")
        return "described"
    if "md5" in facts and record.digest is not None and facts.get("digest") == record.digest:
        return "received" if facts["md5"] == md5 else "missing"
    if _md5_in(site, record) != md5:
        raise _taken(record, "what is there did not come from an exporter")
    return "received"


def receive(site: Site, file_id: str, md5: str, part: FilePart) -> None:
    """Store the data of a file, unless they are here.

    Raises:
        IntegrityError: they have another MD5; nothing is stored then.
        TooLargeError: more data than a key may have.
        InvalidRequestError: the body is malformed.
        ConflictError: the same file is being received in another request.
        Refusal: 409, as for :func:`arrival_of`.
    """
    key = file_key(file_id)
    known = site.find(key)
    pieces = _verified(part, md5, key, site.limits.data)
    if arrival_of(site, known, md5) != "missing":
        for _ in pieces:  # so that the exporter is not cut off while it sends
            pass
        return
    revision = None if known is None else known.revision
    change = Change(
        data=Source(pieces),
        metadata={FIELD: {"md5": md5}},
        mimetype=part.mimetype,
        condition=Condition(revision, create_only=known is None),
    )
    written = site.writer.write(key, change)
    if written.revision is None:
        return
    # Its digest is known only now. Without it the data are read again, no more.
    with contextlib.suppress(ConflictError, KeyNotFoundError):
        digest = written.digest or site.record(key).digest
        stamp = {FIELD: {"md5": md5, "digest": digest}}
        site.writer.write(key, Change(metadata=stamp, condition=Condition(written.revision)))


def _verified(part: FilePart, md5: str, key: str, limit: int) -> Iterator[bytes]:
    seen = hashlib.md5(usedforsecurity=False)
    size = 0
    for piece in part:
        size += len(piece)
        if size > limit:
            raise TooLargeError(f"The data of a key has at most {limit} bytes.", key=key)
        seen.update(piece)
        yield piece
    if seen.hexdigest() != md5:
        message = f"The data of {key!r} has the MD5 {seen.hexdigest()}, not {md5}."
        raise IntegrityError(message, key=key)


def _md5_in(site: Site, record: Record) -> str:
    seen = hashlib.md5(usedforsecurity=False)
    with site.store.get(record.key) as stream:
        while piece := stream.read(PIECE):
            seen.update(piece)
    return seen.hexdigest()


def _taken(record: Record, reason: str) -> Refusal:
    return Refusal(409, f"The key {record.key!r} holds another file: {reason}.")
