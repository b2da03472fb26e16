"""Values and data from a server that a profile describes; never short, never of another version."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from kvstore.profiles.facts import record_of
from kvstore.readers import CheckedReader, buffered
from kvstore.transport.bodies import INLINE
from kvstore.transport.mapped.contents import check_revision, decoded
from kvstore.transport.mapped.decoding import coding_of
from kvstore.transport.mapped.metadata import metadata_of, record_with_metadata
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.resuming import resuming
from kvstore.transport.mapped.slices import open_range
from kvstore.transport.mapped.spooling import Spool
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.resuming import Rest
from kvstore.values import Opener, Record


def read_value(talk: Talk, key: str) -> tuple[Record, Opener]:
    """Return record and data of *key*, with one request for both where the headers tell all."""
    if talk.has("head") and talk.operation("head").is_told_in_body:
        record = record_with_metadata(talk, key)
        return record, MappedOpener(talk, record)
    reply = talk.ask("get", key)
    told = reply.told()
    if "size" not in told and reply.answer.length is not None and not coding_of(reply.answer):
        told["size"] = reply.answer.length
    try:
        metadata = metadata_of(talk, key, reply, told)
        record = record_of(key, told, metadata)
        if "size" not in told:
            # Only the end tells the size: read to there.
            with _whole(talk, reply, told, key) as data:
                spool = Spool.of(data, key)
            return replace(record, size=spool.size), spool
    except BaseException:
        reply.answer.close()
        raise
    return record, MappedOpener(talk, record, (reply, told))


def open_data(
    talk: Talk, key: str, start: int | None, end: int | None, *, revision: str | None = None
) -> BinaryIO:
    """Return a stream over the data of *key*, of a range of it if one is given.

    Args:
        revision: the revision it must have, as far as the server tells one.

    Raises:
        KeyNotFoundError, RangeError; ConflictError: it has another revision now.
    """
    if start is not None or end is not None:
        return open_range(talk, key, start or 0, end, revision)
    reply = talk.ask("get", key)
    told = reply.told()
    check_revision(reply, told, revision)
    return _whole(talk, reply, told, key)


class MappedOpener:
    """Opens the data of one version on a server; the first time from the reply at hand."""

    def __init__(
        self, talk: Talk, record: Record, begun: tuple[Reply, dict[str, Any]] | None = None
    ) -> None:
        self._talk = talk
        self._record = record
        self._begun = begun

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        record = self._record
        begun, self._begun = self._begun, None
        if begun is not None and start is None and end is None:
            # What else is known of it, such as the digest in a list, counts as announced.
            known = {"digest": record.digest} if record.digest is not None else {}
            return _whole(self._talk, begun[0], {**known, **begun[1]}, record.key)
        if begun is not None:
            begun[0].answer.close()
        return open_data(self._talk, record.key, start, end, revision=record.revision)

    def close(self) -> None:
        """Give up the reply at hand, if nobody read it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[0].answer.close()

    def __del__(self) -> None:
        self.close()


def _whole(talk: Talk, reply: Reply, told: Mapping[str, Any], key: str) -> BinaryIO:
    if reply.is_empty:
        reply.answer.finish()
        return io.BytesIO()
    digest = told.get("digest") if talk.verify_digests else None
    stream, size = decoded(reply, told, key)
    begun = Rest(stream, 0)
    reader = resuming(talk, begun, told, key, size=size, checked=digest is not None)
    checked = CheckedReader(reader, size=size, digest=digest, key=key)
    if size is not None and size <= INLINE:
        with checked:  # so that the connection is free again
            return io.BytesIO(checked.readall())
    return buffered(checked)
