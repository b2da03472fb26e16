"""What a server lists, page by page: facts of entries, with their keys as keys."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import requests.utils

from kvstore.errors import InvalidKeyError, InvalidRequestError, KeyNotFoundError, TransportError
from kvstore.keys import check_key
from kvstore.profiles.facts import Place
from kvstore.profiles.listings import Listing
from kvstore.query import Query
from kvstore.transport.addresses import joined, origin_of
from kvstore.transport.bodies import Answer
from kvstore.transport.mapped.talk import Talk

_PIECE = 1 << 16


def entries(
    talk: Talk, query: Query, prefix: str
) -> Generator[tuple[dict[str, Any], bool], None, None]:
    """Yield what the server lists for *prefix*, on all pages: facts, and whether it is a folder.

    Raises:
        TransportError: no list, or one of what is no key or at another server.
    """
    listing = listing_of(talk)
    values = {**_values(query), "prefix": prefix}
    url: str | None = None
    seen: set[str] = set()
    while True:
        try:
            reply = talk.ask("list", values=values, url=url)
        except KeyNotFoundError:
            return  # no such folder, or nothing in it
        answer = reply.answer
        if reply.is_empty:
            answer.finish()
            return
        with closing(answer):
            page = listing.read(_pieces(answer))
            for told, is_folder in page.entries:
                key = _key_of(talk, listing, answer, told["key"], prefix)
                if key is not None:
                    told["key"] = key
                    if is_folder or _is_key(talk, key):
                        yield told, is_folder
        following = _following(listing, answer, page.following)
        if not following:
            return
        if following in seen:
            raise answer.refused(f"names the page {following!r:.100} a second time")
        seen.add(following)
        if listing.next_is == "url":
            url = _next_url(answer, following)
        else:
            values["cursor"] = following


def _pieces(answer: Answer) -> Iterator[bytes]:
    return iter(lambda: answer.read1(_PIECE), b"")


def _key_of(talk: Talk, listing: Listing, answer: Answer, text: str, prefix: str) -> str | None:
    if listing.key_is == "key":
        return text
    if listing.key_is == "relative":
        return prefix + text
    target = joined(answer.url, text)
    if target is None or origin_of(target) != origin_of(answer.url):
        raise answer.refused(f"lists {text!r:.100}, which is no URL of this server")
    template = talk.operation("get").template
    assert template is not None  # noqa: S101 - by how operations are made
    path, base = urlsplit(target).path, urlsplit(talk.base).path
    if _requoted(path).rstrip("/") == _requoted(base).rstrip("/"):
        return None  # the whole
    try:
        found = template.match(path, base=base)
        if found is None:  # some escape `@` in a path, others do not
            found = template.match(_requoted(path), base=_requoted(base))
    except InvalidKeyError as error:
        raise answer.refused(f"lists {text!r:.100}, which is no key") from error
    if found is None:
        raise answer.refused(f"lists {text!r:.100}, which is not below {base!r:.100}")
    return found["key"]


def _requoted(path: str) -> str:
    return quote(unquote_to_bytes(path), safe="/~!$&'()*+,;=:@")


def _is_key(talk: Talk, key: str) -> bool:
    """Tell whether the profile takes it for a key: beside them may lie what belongs to them.

    Raises:
        TransportError: no store would take it for one.
    """
    try:
        talk.profile.check_key(key)
    except InvalidKeyError:
        return False
    try:
        check_key(key)
    except InvalidKeyError as error:
        raise TransportError(f"The server listed what is no key: {error.message}") from error
    return True


def _following(listing: Listing, answer: Answer, told: Any) -> str | None:
    place: Place | None = listing.next
    if place is None:
        return None
    if place.kind != "header":
        return None if told in (None, "", False) else str(told)
    value = answer.headers.get(place.name)
    if value is None or place.name.lower() != "link":
        return value or None
    for link in requests.utils.parse_header_links(value):
        if "next" in link.get("rel", "").lower().split():
            return str(link["url"])
    return None


def _next_url(answer: Answer, reference: str) -> str:
    target = joined(answer.url, reference)
    if target is None or origin_of(target) != origin_of(answer.url):
        raise answer.refused(
            f"has its next page on another server, or at no URL: {reference!r:.100}"
        )
    return target


def _values(query: Query) -> dict[str, Any]:
    """Return what of a query a server may be asked, by source."""
    values: dict[str, Any] = {}
    conditions: list[Any] = [{name: {"eq": value}} for name, value in query.match.items()]
    if query.where is not None:
        every = query.where.get("all") if len(query.where) == 1 else None
        conditions += every if isinstance(every, list) else [query.where]
    for condition in conditions:
        for name, test in condition.items() if isinstance(condition, dict) else ():
            tests = test if isinstance(test, dict) else {"eq": test}
            for operator, value in tests.items():
                if operator in ("eq", "lt", "le", "gt", "ge") and isinstance(
                    value, (str, int, float)
                ):
                    values[f"where.{name}.{operator}"] = value
    return values


def listing_of(talk: Talk) -> Listing:
    """Return how the server lists its keys."""
    listing = talk.operation("list").listing
    if listing is None:
        raise InvalidRequestError(f"The profile {talk.profile.name!r} has a list without a format.")
    return listing
