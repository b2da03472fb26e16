"""What the answer to a question for data has: of which version, and how it is encoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from kvstore.errors import ConflictError
from kvstore.transport.bodies import Answer, BodyStream
from kvstore.transport.mapped.decoding import GunzipStream, coding_of
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.parts import check_part


def decoded(reply: Reply, told: Mapping[str, Any], key: str) -> tuple[io.RawIOBase, int | None]:
    """Return the data as they are stored, and their size if it is known.

    Raises:
        TransportError: the answer contradicts itself, or nothing bounds what it is decoded to.
    """
    answer, size = reply.answer, told.get("size")
    if coding_of(answer) is None:
        if None not in (size, answer.length) and size != answer.length:
            raise answer.refused(f"has {answer.length} bytes, not {size} as announced")
        return BodyStream(answer), answer.length if size is None else size
    if size is None:
        # Nothing else would bound what a few bytes may be decoded to.
        raise answer.refused("is encoded, and does not tell the size of the data")
    return GunzipStream(BodyStream(answer), key=key), size


def check_revision(reply: Reply, told: Mapping[str, Any], revision: str | None) -> None:
    """Check that a reply is of *revision*, as far as it tells.

    Raises:
        ConflictError: it is of another one.
    """
    version = told.get("version")
    if revision is None or version is None or str(version) == revision:
        return
    reply.answer.close()
    key = reply.key
    message = f"The key {key!a} is at revision {version} now, not {revision!a:.100}."
    raise ConflictError(message, key=key)


def check_stored_part(answer: Answer, start: int, end: int | None) -> int:
    """As `check_part`, of bytes as they are stored.

    Raises:
        TransportError: they are others, or encoded.
    """
    if coding_of(answer) is not None:
        raise answer.refused("has a range of encoded bytes")
    return check_part(answer, start, end)
