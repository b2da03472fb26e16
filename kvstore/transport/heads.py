"""Header blocks of answers, read by a parser for what nearly every answer looks like.

``http.client`` reads header fields with the parser for e-mail, which takes a third of the time of
a small request. What is not plain here is left to it, and so means the same.
"""

from __future__ import annotations

import http.client
import re
from typing import Any

_STATUS = re.compile(r"HTTP/1\.([01]) ([2-5][0-9]{2})(?: ([^\x00\r\n]*))?")
#: A field (RFC 9112 section 5) in one line.
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_MOST = 100


class Head(http.client.HTTPMessage):
    """The header fields of one answer, of which nothing is malformed."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__()
        self._headers = fields

    def items(self) -> list[tuple[str, str]]:
        return self._headers

    def get(self, name: str, failobj: Any = None) -> Any:
        name = name.lower()
        for known, value in self._headers:
            if known.lower() == name:
                return value
        return failobj

    def is_multipart(self) -> bool:
        return False

    def get_payload(self, *args: Any, **kwargs: Any) -> Any:
        return None


def plain_head(block: bytes) -> tuple[int, int, str, Head] | None:
    """Return minor version, status, reason and fields of a header block.

    Args:
        block: up to the empty line, that one left out.

    Returns:
        None, if anything of it is unusual.
    """
    first, *lines = block.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None or len(lines) > _MOST:
        return None
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        fields.append((field[1], field[2]))
    return int(status[1]), int(status[2]), (status[3] or "").strip(), Head(fields)
