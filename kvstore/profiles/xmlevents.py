"""XML from outside as events, without what makes XML dangerous."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from kvstore.errors import UnsupportedOperationError


class MalformedXmlError(ValueError):
    """This is no XML, or none that is taken."""


class Readable(Protocol):
    """What a parser reads from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return some bytes, none at the end."""
        ...


def xml_events(stream: Readable, *, levels: int) -> Iterator[tuple[bool, Any]]:
    """Yield each element twice: with False where it begins, with True where it is complete.

    A document type declaration is refused, and with it every entity; nothing is ever fetched. How
    many bytes there are is the stream's to bound: the parser sets no limit.

    Args:
        levels: how deep elements may be.

    Raises:
        MalformedXmlError: no XML, cut short, or deeper.
        UnsupportedOperationError: defusedxml is not installed.
        StoreError: what the stream raises.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, iterparse
    except ImportError as error:
        message = f"XML from outside needs: pip install 'kvstore[webdav]' ({error})."
        raise UnsupportedOperationError(message) from error
    depth = 0
    try:
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            depth += 1 if event == "start" else -1
            if depth > levels:
                raise MalformedXmlError(f"over {levels} levels")
            yield event == "end", element
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise MalformedXmlError(str(error)) from error
