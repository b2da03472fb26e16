"""The data of a key on its way down: all requests for it together give one revision, or none."""

from __future__ import annotations

import io
from typing import BinaryIO

from kvstore.errors import ConflictError, IntegrityError, RangeError, TransportError
from kvstore.hashing import sha256
from kvstore.profiles import wire
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.ranges import format_range, parse_unsatisfied
from kvstore.readers import CheckedReader, buffered
from kvstore.transport.bodies import Answer, BodyStream
from kvstore.transport.conversation import Conversation
from kvstore.transport.parts import check_denied, check_part
from kvstore.transport.resuming import Rest, ResumingReader
from kvstore.transport.tries import Tries
from kvstore.values import resolve_range
from kvstore.writes import ALWAYS, Condition


class Download:
    """The data of one key, or a range of it, asked for as often as it takes. For one thread.

    The rest of it is asked for by range, under the condition that the strong ETag (else the digest
    announced for everything) is that of the first answer. A server that tells neither is asked for
    everything again, which has to begin with what was given out.

    Args:
        revision: the one that it must have; None for any.
        digest: that of everything, where it is known.
    """

    def __init__(
        self,
        talk: Conversation,
        key: str,
        *,
        revision: str | None = None,
        digest: str | None = None,
    ) -> None:
        self._talk = talk
        self._key = key
        self._digest = digest if talk.verify_digests else None
        # Where a server has *value* but no conditions its ETag, which is perhaps that of a proxy,
        # is not what the record came with.
        is_known = talk.has("conditional") or not talk.has("value")
        self._revision = self._etag = revision if is_known else None
        self._start = 0
        self._end: int | None = None
        self._is_whole = True

    def open(self) -> BinaryIO:
        """Return a stream over all the data.

        Raises:
            KeyNotFoundError; ConflictError: it has another revision.
        """
        tries = self._talk.exchange.tries(is_small=False)
        answer = self._ask({}, tries)
        self._learn(answer)
        if answer.is_loaded:
            data = answer.read(answer.length or 0)
            if self._digest is not None and sha256(data) != self._digest:
                told = f"has {sha256(data)}, not {self._digest} as announced"
                raise IntegrityError(f"The data of {self._key!a} {told}.", key=self._key)
            return io.BytesIO(data)
        return self.stream(Rest(BodyStream(answer), 0), tries, answer.length)

    def open_range(self, start: int, end: int | None) -> BinaryIO:
        """Return a stream over the bytes from *start* to before *end*; as `open`, and RangeError.

        They are not empty, as HTTP has no empty range.
        """
        self._is_whole = False
        self._start = start
        tries = self._talk.exchange.tries(is_small=False)
        answer = self._ask({"Range": format_range(start, end)}, tries, expect=(200, 206, 416))
        if answer.status == 416:
            self._deny(answer, start)
            return io.BytesIO()
        self._learn(answer)
        if answer.status == 200:
            return self._cut_out(answer, start, end, tries)
        last = start + check_part(answer, start, end)
        if answer.is_loaded:
            data = answer.read(last - start)
            if len(data) != last - start:
                raise answer.broken(f"{len(data)} of {last - start} bytes came")
            return io.BytesIO(data)
        return self.stream(Rest(BodyStream(answer), start), tries, last)

    def stream(self, begun: Rest, tries: Tries, end: int | None) -> BinaryIO:
        """Return a stream over the data up to *end*, which an answer has begun to bring."""
        self._end = end
        reader = ResumingReader(
            begun,
            self._ask_rest,
            tries,
            start=self._start,
            end=end,
            vouched=self._etag is not None or self._is_checked,
            key=self._key,
        )
        size = None if end is None else end - self._start
        digest = self._digest if self._is_whole else None
        return buffered(CheckedReader(reader, size=size, digest=digest, key=self._key))

    @property
    def _is_checked(self) -> bool:
        """Whether all that is read is compared with a digest at the end."""
        return self._is_whole and self._digest is not None

    def _ask(
        self, headers: dict[str, str], tries: Tries, *, expect: tuple[int, ...] = (200,)
    ) -> Answer:
        condition = ALWAYS
        if self._etag is not None and self._talk.has("conditional"):
            condition = Condition(self._etag)
        elif self._etag is not None and "Range" in headers:
            headers["If-Range"] = format_etag(self._etag)
        return self._talk.ask(
            "GET",
            self._key,
            "data",
            headers=headers,
            expect=expect,
            condition=condition,
            streaming=True,
            tries=tries,
        )

    def _learn(self, answer: Answer) -> None:
        """Take in what the first answer says of its content, which must be the one wanted."""
        told, digest = self._told(answer)
        if self._revision is not None and told not in (None, self._revision):
            answer.close()
            message = f"The key {self._key!a} is at revision {told} now, not {self._revision!a}."
            raise ConflictError(message, key=self._key)
        self._etag = told
        self._digest = digest or self._digest

    def _ask_rest(self, position: int, tries: Tries) -> Rest | None:
        is_ranged = position > 0 or not self._is_whole
        headers = {}
        if is_ranged:
            headers["Range"] = format_range(position, None if self._is_whole else self._end)
        answer = self._ask(headers, tries, expect=(200, 206, 416) if is_ranged else (200,))
        self._check_same(answer)
        if answer.status == 416:
            size = parse_unsatisfied(answer.headers.get("Content-Range", ""))
            answer.finish()
            if size == position and self._end is None:
                return None  # only what ends the first answer was missing
            raise self._changed()
        if answer.status == 206:
            end: int | None = position + check_part(answer, position, self._end)
            rest = Rest(BodyStream(answer), position)
        else:
            length = answer.length
            is_enough = length is None or self._end is None or length >= self._end
            end = self._end if is_enough and not self._is_whole else length
            rest = Rest(BodyStream(answer, limit=self._end), 0)
        if None not in (end, self._end) and end != self._end:
            answer.close()
            raise self._changed()
        return rest

    def _check_same(self, answer: Answer) -> None:
        told, digest = self._told(answer)
        pairs = [(told, self._etag), (digest, self._digest)]
        known = [pair for pair in pairs if None not in pair]
        if any(now != before for now, before in known):
            answer.close()
            raise self._changed()
        is_claimed = self._etag is not None or self._is_checked
        if is_claimed and not (known or self._is_checked):
            raise answer.refused("does not tell whether it is of the same revision as before")

    def _told(self, answer: Answer) -> tuple[str | None, str | None]:
        try:
            digest = wire.digest_of(answer.headers) if self._talk.verify_digests else None
        except TransportError:
            answer.close()
            raise
        return wire.revision_of(answer.headers), digest

    def _deny(self, answer: Answer, start: int) -> None:
        size = parse_unsatisfied(answer.headers.get("Content-Range", ""))
        answer.finish()
        if size is None:
            size = size_of(self._talk, self._key)
        check_denied(answer, start, size, self._key)

    def _cut_out(self, answer: Answer, start: int, end: int | None, tries: Tries) -> BinaryIO:
        """The server ignores ranges and sends everything: skip up to the start, stop at the end."""
        if answer.length is None:
            raise answer.refused("has no range of the data, and no length")
        try:
            first, last = resolve_range(start, end, answer.length, key=self._key)
        except RangeError:
            answer.close()
            raise
        if first == last:
            answer.finish()
            return io.BytesIO()
        return self.stream(Rest(BodyStream(answer, limit=last), 0), tries, last)

    def _changed(self) -> ConflictError:
        message = f"The data of {self._key!a} was changed while it was read, and cannot be read on."
        return ConflictError(message, key=self._key)


def size_of(talk: Conversation, key: str) -> int:
    """Return how many bytes of data *key* has."""
    return wire.record_of_headers(key, talk.ask("HEAD", key, "data").headers, {}).size
