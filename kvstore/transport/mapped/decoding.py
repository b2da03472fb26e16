"""Answers of servers that send data compressed whatever is asked, decoded in constant memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import requests

from kvstore.errors import IntegrityError
from kvstore.transport.bodies import Answer
from kvstore.transport.sender import Sender

#: Where the coding of a body is noted, for an `Answer` takes only bodies as they are stored.
_NOTED = "Kvstore-Content-Encoding"
_PIECE = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS


class DecodingSender(Sender):
    """Another sender, whose answers may be encoded: whoever reads them looks at `coding_of`."""

    def __init__(self, sender: Sender) -> None:  # it has no session and no connections of its own
        self._inner = sender

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, **options: Any
    ) -> requests.Response:
        response = self._inner.send(method, url, headers, body, **options)
        coding = response.headers.pop("Content-Encoding", None)
        if coding is not None and coding.lower() != "identity":
            response.headers[_NOTED] = coding.lower()
        return response

    def close(self) -> None:
        self._inner.close()


def coding_of(answer: Answer) -> str | None:
    """Return how the body is encoded, None if it is as it is stored."""
    coding: str | None = answer.headers.get(_NOTED)
    return coding


class GunzipStream(io.RawIOBase):
    """The bytes that a gzip stream (RFC 1952) of one or more members is of.

    Never more than a piece is decoded ahead, whatever the ratio: who reads decides how much comes.
    A stream that ends within a member, has a wrong checksum or something behind its end is an
    IntegrityError.

    Args:
        stream: has ``readinto`` and ``close``; closed with this.
        key: for the error.
    """

    def __init__(self, stream: Any, *, key: str) -> None:
        self._stream = stream
        self._key = key
        self._decoder: Any = zlib.decompressobj(_GZIP)
        self._began = False
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(buffer):
            if not self._waiting and not self._fill():
                return 0
            if self._decoder.eof:
                self._decoder = zlib.decompressobj(_GZIP)
            try:
                piece = self._decoder.decompress(self._waiting, len(buffer))
            except zlib.error as error:
                raise self._broken(f"is no gzip stream ({error})") from error
            self._began = True
            self._waiting = self._decoder.unconsumed_tail or self._decoder.unused_data
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
        return 0

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _fill(self) -> bool:
        piece = bytearray(_PIECE)
        count = self._stream.readinto(piece) or 0
        self._waiting = bytes(piece[:count])
        if not count and not (self._began and self._decoder.eof):
            raise self._broken("was cut short")
        return count > 0

    def _broken(self, problem: str) -> IntegrityError:
        return IntegrityError(f"The encoded data of {self._key!a} {problem}.", key=self._key)
