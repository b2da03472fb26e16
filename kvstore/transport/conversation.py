"""One server as its service document describes it: its URLs, its abilities, requests to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from kvstore.documents import JsonObject, parse_object
from kvstore.errors import InvalidRequestError, TransportError, UnsupportedOperationError
from kvstore.profiles import wire
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.service import VALUE_PART, VERSIONS_PART, Service
from kvstore.profiles.templates import Template
from kvstore.transport.bodies import MAX_DOCUMENT, Answer
from kvstore.transport.exchange import Exchange, Request
from kvstore.transport.remembered import Remembered
from kvstore.transport.tries import Tries
from kvstore.transport.upload import Upload
from kvstore.writes import Condition

#: Bytes that any network carries within the time for a small call.
_SMALL = 1 << 16


class Conversation:
    """Builds requests for keys and sends them. Immutable and thread-safe.

    Args:
        exchange: how to send.
        service: what the server is.
        remembered: where uploads that are under way are remembered; None: in this process.
        verify_digests: whether data is checked against the digests that the server announces.
    """

    def __init__(
        self,
        exchange: Exchange,
        service: Service,
        remembered: Remembered | None = None,
        *,
        verify_digests: bool,
    ) -> None:
        self.exchange = exchange
        self.remembered = remembered
        self.service = service
        self.verify_digests = verify_digests
        self._version: str | None = None
        self._with_part = Template(service.url_format)
        self._without_part = Template(service.url_format_no_part)

    def begun(self) -> Conversation:
        """Return one for an operation that begins now, and has one deadline if there is one."""
        exchange = self.exchange.begun()
        return self if exchange is self.exchange else self.with_exchange(exchange)

    def with_exchange(self, exchange: Exchange) -> Conversation:
        """Return one that sends by *exchange*."""
        twin = copy.copy(self)
        twin.exchange = exchange
        return twin

    def at_version(self, version: str) -> Conversation:
        """Return one that asks for data and values as they were at the revision *version*."""
        twin = copy.copy(self)
        twin._version = version
        return twin

    def has(self, capability: str) -> bool:
        """Tell whether the server announces an extension."""
        return capability in self.service.capabilities

    def url(self, key: str, part: str | None) -> str:
        """Return the URL of a part (data, permissions, value and so on), or of the key."""
        base = self.service.base
        if part is None:
            return self._without_part.expand(base=base, key=key)
        name = part if part in (VALUE_PART, VERSIONS_PART) else self.service.parts[part]
        url = self._with_part.expand(base=base, key=key, part=name)
        if self._version is None:
            return url
        separator = "&" if urlsplit(url).query else "?"
        return f"{url}{separator}{urlencode({wire.VERSION_PARAMETER: self._version})}"

    def ask(
        self,
        method: str,
        key: str,
        part: str | None,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | Upload | None = None,
        expect: Collection[int] = (200,),
        condition: Condition | None = None,
        streaming: bool = False,
        confirm: Callable[[], Mapping[str, str] | None] | None = None,
        tries: Tries | None = None,
    ) -> Answer:
        """Send a request about *key*; see :class:`kvstore.transport.exchange.Exchange`."""
        fields = headers or {}
        if condition:
            fields.update(self.condition_fields(condition))
        return self.exchange(
            Request(
                method,
                self.url(key, part),
                key=key,
                headers=fields,
                body=body,
                expect=expect,
                streaming=streaming or (body is not None and not _is_small(body)),
                conditional=bool(condition),
                confirm=confirm if condition else None,
            ),
            tries,
        )

    def document(self, key: str, part: str) -> JsonObject:
        """Return the JSON object at a part of *key*.

        Raises:
            TransportError: the server sent something else.
        """
        answer = self.ask("GET", key, part, headers={"Accept": "application/json"})
        body = answer.read(MAX_DOCUMENT)
        try:
            return parse_object(body, what=f"{part} of {key!a:.100}")
        except InvalidRequestError as error:
            raise TransportError(f"The server sent no {part}: {error.message}", key=key) from error

    def condition_fields(self, condition: Condition) -> dict[str, str]:
        """Return the header fields for *condition*.

        Raises:
            UnsupportedOperationError: the server does not announce that it honours conditions.
        """
        if not self.has("conditional"):
            message = (
                "This server does not announce conditional writes; one that ignored the "
                "condition would lose an update."
            )
            raise UnsupportedOperationError(message)
        fields: dict[str, Any] = {}
        if condition.if_match is not None:
            fields["If-Match"] = (
                "*" if condition.if_match == "*" else format_etag(condition.if_match)
            )
        if condition.create_only:
            fields["If-None-Match"] = "*"
        return fields


def _is_small(body: bytes | Upload) -> bool:
    return isinstance(body, bytes) and len(body) <= _SMALL
