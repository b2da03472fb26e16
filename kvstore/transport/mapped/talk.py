"""Requests to a server as its profile spells them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from kvstore.errors import UnsupportedOperationError
from kvstore.profiles.codecs import encode
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.operations import Operation, Sent
from kvstore.profiles.profile import Profile
from kvstore.transport.exchange import Exchange, Request
from kvstore.transport.mapped.decoding import coding_of
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.tries import Tries
from kvstore.transport.upload import Upload
from kvstore.writes import ALWAYS, Condition

#: Operations that may be sent again although their method does not say so.
_REPEATABLE = frozenset({"probe", "list", "make_parent"})
_SMALL = 1 << 16
_NOTHING: Mapping[str, Any] = {}


class Talk:
    """Builds the requests of a profile's operations and sends them. Immutable and thread-safe.

    Args:
        exchange: how to send.
        base: what ``{base}`` stands for.
        verify_digests: whether data is checked against the digests that the server announces.
    """

    def __init__(
        self, exchange: Exchange, profile: Profile, base: str, *, verify_digests: bool
    ) -> None:
        self.exchange = exchange
        self.profile = profile
        self.base = base
        self.verify_digests = verify_digests

    def has(self, name: str) -> bool:
        """Tell whether the server has the operation *name*."""
        return name in self.profile.operations

    def operation(self, name: str, key: str | None = None) -> Operation:
        """Return the operation *name*.

        Raises:
            UnsupportedOperationError: the server has none.
        """
        operation = self.profile.operations.get(name)
        if operation is None:
            raise self.unsupported(name, key)
        return operation

    def unsupported(self, operation: str, key: str | None = None) -> UnsupportedOperationError:
        """Return the error for what this server has no means for."""
        message = f"A server of the profile {self.profile.name!r} has no operation {operation!r}."
        return UnsupportedOperationError(message, key=key)

    def url(self, operation: Operation, key: str | None, prefix: str = "") -> str:
        """Return the URL of an operation, without its query."""
        if operation.template is not None and key is not None:
            if operation.name != "reserve":  # what is asked for there is no key yet
                self.profile.check_key(key)
            return operation.template.expand(base=self.base, key=key)
        assert operation.plain is not None  # noqa: S101 - by how operations are made
        return operation.plain.expand(base=self.base, prefix=prefix)

    def ask(
        self,
        name: str,
        key: str | None = None,
        *,
        values: Mapping[str, Any] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: bytes | Upload | None = None,
        condition: Condition = ALWAYS,
        judged: bool = True,
        url: str | None = None,
        tries: Tries | None = None,
    ) -> Reply:
        """Send the request of an operation, and return the reply, whose outcome is an answer.

        Args:
            values: by source, what the profile may send.
            headers: more header fields.
            judged: False returns whatever status came; see :meth:`judge`.
            url: instead of that of the operation, with all its parameters.
            tries: those of the transfer that this is a part of.

        Raises:
            UnsupportedOperationError: there is no such operation, or it has no such condition.
            InvalidKeyError: a key that the server does not take.
            StoreError: what the status means.
        """
        operation = self.operation(name, key)
        fields, sent = self._fields(operation, values)
        fields.update(headers)
        if condition:
            fields.update(self._condition(operation, condition, key))
        if operation.body == "text":
            body = operation.text.encode()
        if url is None:
            url = self.url(operation, key, values.get("prefix", ""))
            url = _with_query(url, self._query(operation, values, sent))
        is_data = name == "get" or (body is not None and not _is_small(body))
        request = Request(
            operation.method,
            url,
            key=key,
            headers=fields,
            body=body,
            expect=self._expected(operation),
            streaming=is_data or name == "list",
            conditional=bool(condition),
            repeatable=name in _REPEATABLE,
        )
        reply = Reply(self.exchange(request, tries), operation, request, sent)
        return self.judge(reply) if judged else reply

    def judge(self, reply: Reply) -> Reply:
        """Return the reply, if its status is an answer.

        Raises:
            StoreError: what the status means; TransportError: a coding that was not agreed on.
        """
        reply.judge(self.profile.error_message)
        coding = coding_of(reply.answer)
        if coding is not None and coding not in reply.operation.accepts:
            raise reply.answer.refused(f"is encoded as {coding!r:.50}")
        return reply

    def _expected(self, operation: Operation) -> frozenset[int]:
        expected = operation.statuses.expected()
        if operation.name == "delete" and not operation.statuses.needs_body(404):
            # The exchange knows whether an earlier try has deleted what is missing now.
            return expected - {404}
        return expected

    def _fields(
        self, operation: Operation, values: Mapping[str, Any]
    ) -> tuple[dict[str, str], dict[str, Any]]:
        sent: dict[str, Any] = {}
        fields = {}
        for name, what in operation.headers.items():
            value = _value(what, values)
            if value is not None:
                sent[f"header:{name}"] = value
                fields[name] = _spelled(what, value)
        if operation.body_encoding == "gzip":
            fields["Content-Encoding"] = "gzip"
        return fields, sent

    def _query(
        self, operation: Operation, values: Mapping[str, Any], sent: dict[str, Any]
    ) -> list[tuple[str, str]]:
        parameters = []
        for name, what in operation.query.items():
            value = _value(what, values)
            if value is not None:
                sent[f"query:{name}"] = value
                parameters.append((name, _spelled(what, value)))
        return parameters

    def _condition(
        self, operation: Operation, condition: Condition, key: str | None
    ) -> dict[str, str]:
        fields = {}
        if condition.if_match is not None and operation.if_match is None:
            raise self._unconditional(operation, "if_match", key)
        if condition.if_match is not None and operation.if_match == "If-Match":
            is_any = condition.if_match == "*"
            fields["If-Match"] = "*" if is_any else format_etag(condition.if_match)
        if condition.create_only:
            if operation.if_none_match is None:
                raise self._unconditional(operation, "if_none_match", key)
            if operation.if_none_match == "If-None-Match":
                fields["If-None-Match"] = "*"
        return fields

    def _unconditional(
        self, operation: Operation, condition: str, key: str | None
    ) -> UnsupportedOperationError:
        where = f"{operation.name!r} of a server of the profile {self.profile.name!r}"
        return UnsupportedOperationError(f"{where} honours no {condition}.", key=key)


def _value(what: Sent, values: Mapping[str, Any]) -> Any:
    if what.constant is not None:
        return what.constant
    value = values.get(what.source)
    if value is None and "now" in (what.source, what.default):
        return time.time()
    return what.default if value is None else value


def _spelled(what: Sent, value: Any) -> str:
    return what.constant if what.constant is not None else encode(what.codec, value)


def _with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    if not parameters:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters)}"


def _is_small(body: bytes | Upload) -> bool:
    return isinstance(body, bytes) and len(body) <= _SMALL
