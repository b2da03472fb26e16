"""Data of a server that a profile describes, which goes on where an answer broke off."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from kvstore.profiles.conditions import format_etag
from kvstore.profiles.ranges import format_range
from kvstore.transport.bodies import BodyStream
from kvstore.transport.mapped.contents import check_revision, check_stored_part, decoded
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.resuming import Rest, ResumingReader
from kvstore.transport.tries import Tries


def resuming(
    talk: Talk,
    begun: Rest,
    told: Mapping[str, Any],
    key: str,
    *,
    size: int | None = None,
    part: tuple[int, int] | None = None,
    checked: bool = False,
) -> ResumingReader:
    """Return a stream over the data.

    The rest is asked for by range where the server knows ranges, under the condition that its
    strong ETag is that of the first answer. Where there is none, and no digest is checked, all is
    asked for again and has to begin with what was given out.

    Args:
        begun: the first answer.
        told: the facts that it told.
        size: bytes of the data, if that is known.
        part: only the bytes from the first number to before the second.
        checked: whether who reads this compares all of it with a digest.
    """
    start, end = (0, size) if part is None else part
    ask = _Rest(talk, key, told.get("version"), None if part is None else end)
    tries = talk.exchange.tries(is_small=False)
    tries.made = 1  # the answer that is there
    vouched = checked or ask.is_strong
    return ResumingReader(begun, ask, tries, start=start, end=end, vouched=vouched, key=key)


class _Rest:
    """Asks for the data from a position on; with an *end*, for a part of it that ends there."""

    def __init__(self, talk: Talk, key: str, version: Any, end: int | None) -> None:
        self._talk = talk
        self._key = key
        self._version = version
        self._end = end
        self._operation = talk.operation("get", key)
        fact = self._operation.facts.get("version")
        #: Whether the version is an ETag, two contents of which are never the same.
        self.is_strong = version is not None and fact is not None and fact.codec == "etag"

    def __call__(self, position: int, tries: Tries) -> Rest | None:
        headers = {}
        if position and self._operation.ranges:
            headers["Range"] = format_range(position, self._end)
            if self.is_strong:
                headers["If-Range"] = format_etag(str(self._version))
        reply = self._talk.ask("get", self._key, headers=headers, judged=False, tries=tries)
        status = reply.answer.status
        if headers and status == 416:
            reply.answer.finish()
            return None
        if not headers or status != 206:
            self._talk.judge(reply)
        told = reply.told()
        check_revision(reply, told, None if self._version is None else str(self._version))
        if status == 206:
            check_stored_part(reply.answer, position, self._end)
            return Rest(BodyStream(reply.answer), position)
        if self._end is not None:
            raise reply.answer.refused("has no range of the data any more")
        return Rest(self._all(reply, told), 0)

    def _all(self, reply: Reply, told: Mapping[str, Any]) -> io.RawIOBase | io.BytesIO:
        if reply.is_empty:
            reply.answer.finish()
            return io.BytesIO()
        return decoded(reply, told, self._key)[0]
