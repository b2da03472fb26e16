"""What a server finds, page by page in constant memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests.utils

from kvstore.documents import parse_object
from kvstore.errors import InvalidKeyError, InvalidRequestError, KeyNotFoundError, TransportError
from kvstore.keys import check_key
from kvstore.profiles import wire
from kvstore.query import Order, Query, run
from kvstore.transport.addresses import joined, origin_of
from kvstore.transport.bodies import Answer, BrokenOffError
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request
from kvstore.transport.tries import Tries
from kvstore.values import Record, is_integer

_LINE = 1 << 22
_PIECE = 1 << 16
_log = logging.getLogger("kvstore.client")


def find_records(talk: Conversation, query: Query) -> Iterator[Record]:
    """Yield what *query* finds, by the *records* extension; follows the server's pages.

    Where an answer breaks off it goes on behind the last record.
    """
    found = _Found(query)
    tries = talk.exchange.tries(is_small=False)
    url: str | None = _with_parameters(talk.service.query, wire.query_parameters(query))
    while url is not None and found.left != 0:
        before = found.last
        answer = _ask(talk, url, accept=wire.RECORDS_TYPE, tries=tries)
        try:
            with contextlib.closing(_records_of(answer, tries)) as records:
                for record in records:
                    found.take(answer, record)
                    yield record
                    if found.left == 0:
                        break
        except BrokenOffError as error:
            tries.wait(error)
            if found.last is not before:
                rest = found.rest()
                url = _with_parameters(talk.service.query, wire.query_parameters(rest))
        else:
            url = _next_page(answer, url)
            tries = talk.exchange.tries(is_small=False)


class _Found:
    """How far a listing has come."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._order = None if query.order_by is None else Order(query.order_by)
        self._resumed = False
        self.left = query.limit
        self.last: Record | None = None

    def take(self, answer: Answer, record: Record) -> None:
        """Count the next record.

        Raises:
            TransportError: it is not behind the last one: else a server whose pages repeat would be
                listed without end.
        """
        last = self.last
        if last is not None and (self._order is None or self._resumed):
            is_behind = (
                record.key > last.key
                if self._order is None
                else self._order.place(record) > self._order.place(last)
            )
            if not is_behind:
                raise answer.refused(f"lists {record.key!a:.100} after {last.key!a:.100}")
        self._resumed = False
        self.last = record
        self.left = None if self.left is None else self.left - 1

    def rest(self) -> Query:
        """Return the query for what is still to come."""
        self._resumed = True
        after = None if self.last is None else self._query.cursor(self.last)
        return replace(self._query, after=after, limit=self.left)


def count_records(talk: Conversation, query: Query) -> int:
    """Return how many records *query* finds, by the *records* extension."""
    parameters = wire.query_parameters(query, count=True)
    answer = _ask(talk, _with_parameters(talk.service.query, parameters), accept="application/json")
    try:
        count: Any = parse_object(answer.read(_PIECE), what="count").get("count")
    except InvalidRequestError as error:
        raise TransportError(f"The server sent no count: {error.message}") from error
    if not is_integer(count) or count < 0:
        raise TransportError(f"The server sent no count: {count!r:.50}.")
    return int(count)


def find_plainly(talk: Conversation, query: Query, *, keys_only: bool) -> Iterator[Record]:
    """Yield what *query* finds on a server that knows equality alone, and tells keys alone.

    The rest of the query is answered here, with a request a key where it or the caller needs the
    metadata. The size of the data is not told, and -1.
    """
    rest = replace(query, match={})
    metadata_needed = not keys_only or rest.where is not None or rest.order_by is not None
    keys = sorted(_plain_keys(talk, query))
    in_reach = (key for key in keys if key.startswith(query.key_prefix()))

    def records() -> Iterator[Record]:
        for key in in_reach:
            if query.order_by is None and query.after is not None and key <= query.after:
                continue
            if not metadata_needed:
                yield Record(key, {}, -1)
                continue
            try:
                yield Record(key, talk.document(key, "metadata"), -1)
            except KeyNotFoundError:
                continue  # deleted since the server listed it

    return run(rest, records())


def _plain_keys(talk: Conversation, query: Query) -> set[str]:
    # Such a server gives them in no certain order, so that there is no place to go on from.
    tries = talk.exchange.tries(is_small=False)
    while True:
        try:
            return set(_listed(talk, query, tries))
        except BrokenOffError as error:
            tries.wait(error)


def _listed(talk: Conversation, query: Query, tries: Tries) -> Iterator[str]:
    url = _with_parameters(talk.service.query, wire.plain_parameters(query.match))
    answer = _ask(talk, url, accept="text/plain", tries=tries)
    omitted = answer.headers.get("X-Keys-Omitted", "0")
    if omitted != "0":
        _log.warning("%s keys hold line breaks and are not in this plain listing", omitted[:20])
    rest = b""
    with contextlib.closing(answer):
        for piece in _pieces(answer):
            # As bytes: str.splitlines would also split at U+2028 and others that keys may hold.
            lines = (rest + piece).splitlines(keepends=True)
            # The last one may go on, and a "\r" may be half of a line break.
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            yield from map(_key_of, lines)
            if len(rest) > _PIECE:
                break  # no key is that long
    if rest:
        yield _key_of(rest)


def _key_of(line: bytes) -> str:
    try:
        return check_key(line.rstrip(b"\r\n").decode("utf-8"))
    except (UnicodeDecodeError, InvalidKeyError) as error:
        raise TransportError(f"The server listed what is no key: {line!r:.100}.") from error


def _records_of(answer: Answer, tries: Tries) -> Generator[Record, None, None]:
    with contextlib.closing(answer):
        for line in wire.lines_of(_pieces(answer, tries), limit=_LINE):
            record = wire.parse_record(line)
            try:
                check_key(record.key)
            except InvalidKeyError as error:
                raise answer.refused(f"lists what is no key: {error.message}") from error
            yield record


def _pieces(answer: Answer, tries: Tries | None = None) -> Iterator[bytes]:
    while True:
        began = monotonic()
        piece = answer.read1(_PIECE)
        if tries is not None:
            tries.received(len(piece), monotonic() - began)
        if not piece:
            return
        yield piece


def _next_page(answer: Answer, url: str) -> str | None:
    field = answer.headers.get("Link")
    if not field:
        return None
    for link in requests.utils.parse_header_links(field):
        if "next" not in link.get("rel", "").lower().split():
            continue
        following = joined(answer.url, link["url"])
        if following is None:
            raise answer.refused(f"links to what is no URL: {link['url']!r:.100}")
        if origin_of(following) != origin_of(answer.url):
            raise answer.refused(f"has its next page on another server: {following!r:.100}")
        if following == url:
            raise answer.refused("names itself as its next page")
        return following
    return None


def _with_parameters(url: str, parameters: list[tuple[str, str]]) -> str:
    if not parameters:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters)}"


def _ask(talk: Conversation, url: str, *, accept: str, tries: Tries | None = None) -> Answer:
    try:
        return talk.exchange(
            Request("GET", url, headers={"Accept": accept}, streaming=tries is not None), tries
        )
    except KeyNotFoundError as error:
        # No key is missing here: the query URL itself is wrong.
        raise InvalidRequestError(f"There is no query at that URL. {error.message}") from error
