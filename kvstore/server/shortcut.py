"""The short way of requests whose answer is kept: past the application and the store."""

from __future__ import annotations

import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from kvstore.server.access.callers import Access
from kvstore.server.answers import Field
from kvstore.server.hosts import Hosts
from kvstore.server.kept import Kept, KeptAnswers
from kvstore.server.observing import ids
from kvstore.server.observing.observer import Line, Observer

#: Fields of which no handler makes anything but what is made of them here. A request with any other
#: one, such as a condition, a range, a body, or what a proxy adds, goes the long way.
_PLAIN: Final = frozenset(
    {
        *(b"host", b"authorization", b"user-agent", b"connection", ids.HEADER),
        *(b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"pragma"),
        *(b"cookie", b"dnt", b"priority", b"referer", b"upgrade-insecure-requests"),
        *(b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user"),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-gpc"),
    }
)
#: With these a cache asks whether it has the answer still.
_CONDITIONAL: Final = _PLAIN | {b"if-none-match", b"if-modified-since"}


class Shortcut:
    """Answers again what was answered before, to the same reader. Lives on the event loop.

    Nothing is decided here but that nothing has changed: the credentials hold, the reader was given
    this answer before, and the store is as it was then. Whatever is otherwise goes the long way.

    Args:
        kept: the answers.
        hosts, access, observer: those of the application.
    """

    def __init__(
        self, kept: KeptAnswers, hosts: Hosts, access: Access | None, observer: Observer
    ) -> None:
        self._kept = kept
        self._hosts = hosts
        self._access = access
        self._observer = observer

    def answer(
        self, target: bytes, headers: list[Field], client: Any, default: bytes, *, is_first: bool
    ) -> bytes | None:
        """Return the answer to a GET, to be sent as it is; None where it must go the long way.

        Args:
            target: of the request line.
            headers: all fields of the request, with names in lower case.
            client: its address, for the log.
            default: lines of the fields that every answer has.
            is_first: whether the request is the first in what was received.
        """
        kept = self._kept.find(target)
        if kept is None:
            return None
        began = time.perf_counter()
        fields = dict(headers)
        if len(fields) != len(headers) or not self._hosts.knows(fields.get(b"host")):
            return None
        status = _status(kept, fields)
        if status is None:
            return None
        caller = None
        if self._access is not None and not self._access.is_open():
            caller = self._access.recall(fields.get(b"authorization"))
            if caller is None or not caller.may("read"):
                return None
        reader = None if caller is None else caller.tags
        if reader not in kept.readers:
            return None
        if not (self._kept.held() if is_first else self._kept.holds()):
            return None
        named = fields.get(ids.HEADER)
        request_id = ids.name_of(None if named is None else [named])
        body = kept.body if status == 200 else b""
        seconds = time.perf_counter() - began
        self._observer.answered(kept.route, status, len(body), seconds)
        if self._observer.is_told:
            agent = fields.get(b"user-agent")
            self._observer.tell(
                Line(
                    "GET",
                    target,
                    status,
                    "done",
                    0,
                    len(body),
                    seconds,
                    None if caller is None else caller.name,
                    client,
                    request_id,
                    None if agent is None else agent.decode("latin-1"),
                )
            )
        lines = kept.lines if status == 200 else kept.state_lines
        name = b"%b: %b\r\n\r\n" % ids.field_of(request_id)
        return b"".join((STATUS_LINE[status], default, lines, name, body))


def _status(kept: Kept, fields: dict[bytes, bytes]) -> int | None:
    """The status that a request with these fields gets; None where the long way has to tell."""
    if fields.keys() <= _PLAIN:
        return 200
    is_same = (
        fields.keys() <= _CONDITIONAL
        and fields.get(b"if-none-match") == kept.etag
        and fields.get(b"if-modified-since", kept.modified) == kept.modified
    )
    return 304 if is_same else None
