"""The one file of a ``multipart/form-data`` body (RFC 7578), read as it comes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvstore.errors import InvalidRequestError
from kvstore.values import check_mimetype

#: Bytes of the header of a part.
_MAX_HEAD = 8 * 1024
#: Bytes that may follow the last boundary, of white space.
_MAX_TAIL = 64
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]", re.ASCII)
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=("(?:[^"\\]|\\.)*+"|[^\s;"]*)""", re.ASCII
)


def boundary_of(content_type: str | None) -> bytes:
    """Return what stands between the parts of a body (RFC 2046 section 5.1.1).

    Raises:
        InvalidRequestError: the body has no parts, or its boundary is none.
    """
    kind, parameters = _parsed(content_type or "")
    boundary = parameters.get("boundary", "")
    if kind != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        message = "A file is uploaded as multipart/form-data with a boundary, not as"
        raise InvalidRequestError(f"{message} {content_type!r:.100}.")
    return boundary.encode("ascii")


class FilePart:
    """The part of that name, which must be the only one; iterate to get its content.

    Nothing is kept but the piece at hand. For one thread.

    Args:
        pieces: the body.
        boundary: see :func:`boundary_of`.
        name: of the field.

    Raises:
        InvalidRequestError: here or while it is read: the body is malformed, has another part, or
            ends before its last boundary.
    """

    def __init__(self, pieces: Iterator[bytes], boundary: bytes, name: str) -> None:
        self._pieces = pieces
        self._mark = b"\r\n--" + boundary
        # Before the first boundary there is no line to end.
        self._buffer = b"\r\n"
        #: Media type of the content, None if the client did not say.
        self.mimetype = self._begin(name)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content, once."""
        kept = len(self._mark) - 1
        while (at := self._buffer.find(self._mark)) < 0:
            if len(self._buffer) > kept:
                yield self._buffer[:-kept]
                self._buffer = self._buffer[-kept:]
            self._more()
        if at:
            yield self._buffer[:at]
        self._buffer = self._buffer[at + len(self._mark) :]
        self._end()

    def _begin(self, name: str) -> str | None:
        while (at := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise InvalidRequestError(f"A part of a body has {_MAX_HEAD} bytes of header.")
            self._more()
        head, self._buffer = self._buffer[:at], self._buffer[at + 4 :]
        first, *lines = head[2:].split(b"\r\n")
        if b"\r\n" + first.rstrip(b" \t") != self._mark or len(head) > _MAX_HEAD:
            raise InvalidRequestError(
                "The body does not begin with its boundary and a short header."
            )
        known = dict(map(_field, lines))
        if len(known) != len(lines):
            raise InvalidRequestError("The header of a part has a field twice.")
        kind, parameters = _parsed(known.get("content-disposition", ""))
        if kind != "form-data" or parameters.get("name") != name:
            told = known.get("content-disposition")
            raise InvalidRequestError(f"The file is the field {name!r}, not {told!r:.100}.")
        return check_mimetype(known.get("content-type"))

    def _end(self) -> None:
        while len(self._buffer) <= _MAX_TAIL and (piece := next(self._pieces, b"")):
            self._buffer += piece
        if self._buffer[:2] == b"\r\n":
            raise InvalidRequestError("The body has more than one part.")
        rest = self._buffer[2:]
        if self._buffer[:2] != b"--" or rest.strip(b" \t\r\n") or len(rest) > _MAX_TAIL:
            raise InvalidRequestError("The body does not end with its boundary.")

    def _more(self) -> None:
        piece = next(self._pieces, b"")
        if not piece:
            raise InvalidRequestError("The body ends before its last boundary.")
        self._buffer += piece


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not name.strip() or name != name.strip():  # a folded line, too
        raise InvalidRequestError(f"The header of a part has a line {line!r:.100}.")
    return name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")


def _parsed(value: str) -> tuple[str, dict[str, str]]:
    """Return a header value and its parameters; the first of each name counts."""
    kind = value.partition(";")[0]
    found: dict[str, str] = {}
    at = len(kind)
    while (match := _PARAMETER.match(value, at)) is not None:
        at = match.end()
        text = match[2]
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        found.setdefault(match[1].lower(), text)
    return kind.strip().lower(), found
