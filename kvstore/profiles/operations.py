"""One operation of a profile: the request that it is, and what its answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvstore.errors import InvalidRequestError
from kvstore.profiles.facts import Fact, Place, facts_of
from kvstore.profiles.listings import Listing
from kvstore.profiles.statuses import Statuses
from kvstore.profiles.templates import Template

_METHODS = {
    "probe": "GET",
    "get": "GET",
    "head": "HEAD",
    "exists": "HEAD",
    "get_metadata": "GET",
    "set": "PUT",
    "replace": "PUT",
    "set_metadata": "PUT",
    "update_metadata": "POST",
    "reserve": "POST",
    "delete": "DELETE",
    "delete_metadata": "DELETE",
    "list": "GET",
    "make_parent": "MKCOL",
}
_BODIES = {
    "set": "data",
    "replace": "data",
    "set_metadata": "metadata",
    "update_metadata": "metadata",
}
#: Operations whose URL is not that of one key.
_WITHOUT_KEY = frozenset({"list", "probe"})


@dataclass(frozen=True, slots=True)
class Sent:
    """A value of a header or parameter: a constant, or where it comes from."""

    constant: str | None = None
    source: str = ""
    codec: str = "str"
    #: What it is where the source has none.
    default: str | float | None = None

    @classmethod
    def of(cls, document: str | Mapping[str, Any]) -> Sent:
        """Return what a profile describes."""
        if isinstance(document, str):
            return cls(constant=document)
        codec = document.get("codec", "str")
        return cls(None, document["from"], codec, document.get("default"))


@dataclass(frozen=True, slots=True)
class Check:
    """What must be true after a write that was answered as if it had been made."""

    message: str
    #: The key must not exist any more.
    gone: bool = False
    fact: Fact | None = None
    equals: Any = None
    #: ``query:NAME`` or ``header:NAME``: what was sent there.
    sent: str | None = None
    means: str = "conflict"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Check:
        """Return what a profile describes."""
        if document.get("gone"):
            return cls(document["message"], gone=True)
        fact = Fact(Place.of(document["from"]), document.get("codec", "str"))
        if "equals" in document and "codec" not in document:
            fact = Fact(fact.place, "json")
        told = {name: document[name] for name in ("equals", "sent", "means") if name in document}
        return cls(document["message"], fact=fact, **told)


class PlainURL:
    """A URL with ``{base}`` and perhaps ``{prefix}``, of no one key."""

    def __init__(self, text: str, safe: str | None) -> None:
        self.has_prefix = "{prefix}" in text
        if self.has_prefix and "{key}" in text:
            raise InvalidRequestError(f"URL template {text!r:.100} has both a key and a prefix.")
        # A template has a key. What stands for the prefix is quoted as one.
        self._template = Template(
            text.replace("{prefix}", "{key}") if self.has_prefix else f"{text}{{key}}", safe=safe
        )

    def expand(self, *, base: str, prefix: str) -> str:
        """Return the URL for what begins with *prefix*."""
        return self._template.expand(base=base, key=prefix if self.has_prefix else "")


@dataclass(frozen=True, slots=True)
class Operation:
    """See the module."""

    name: str
    method: str
    #: Of a key; None for a list.
    template: Template | None
    plain: PlainURL | None
    query: Mapping[str, Sent]
    headers: Mapping[str, Sent]
    #: ``none``, ``data``, ``metadata``; ``text`` where ``text`` is the body.
    body: str
    text: str
    body_encoding: str
    needs_length: bool
    accepts: tuple[str, ...]
    statuses: Statuses
    facts: Mapping[str, Fact]
    verify: tuple[Check, ...]
    #: ``If-Match``; ``newest`` where what is sent as that names the version; None: it honours none.
    if_match: str | None
    #: ``If-None-Match``; ``inherent`` where it never overwrites; None: it always may.
    if_none_match: str | None
    replaces: bool
    #: Whether the answer tells whether the key is new, by 201.
    tells_new: bool
    #: Whether it is asked first whether there is such a key.
    asks_first: bool
    ranges: bool
    listing: Listing | None

    @classmethod
    def of(
        cls,
        name: str,
        document: Mapping[str, Any],
        *,
        safe: str | None,
        headers: Mapping[str, Any],
        facts: Mapping[str, Any],
        statuses: Statuses,
    ) -> Operation:
        """Return what a profile describes; what holds for all its operations is given apart.

        Raises:
            InvalidRequestError: a template that is none, a list that does not say what it is, or a
                condition that would not be sent.
        """
        text, listing = document["url"], document.get("listing")
        if (name == "list") != (listing is not None):
            raise InvalidRequestError(
                f"/operations/{name}: a list, and nothing else, has a listing."
            )
        if document.get("if_match") == "newest" and name != "delete":
            raise InvalidRequestError(f"/operations/{name}: only delete can have 'newest'.")
        body = document.get("body", _BODIES.get(name, "none"))
        is_plain = name in _WITHOUT_KEY
        return cls(
            name=name,
            method=document.get("method", _METHODS[name]),
            template=None if is_plain else Template(text, safe=safe),
            plain=PlainURL(text, safe) if is_plain else None,
            query={key: Sent.of(value) for key, value in document.get("query", {}).items()},
            headers={
                key: Sent.of(value)
                for key, value in {**headers, **document.get("headers", {})}.items()
            },
            body="text" if isinstance(body, dict) else body,
            text=body["text"] if isinstance(body, dict) else "",
            body_encoding=document.get("body_encoding", "identity"),
            needs_length=document.get("length", "optional") == "required",
            accepts=tuple(document.get("accepts", ())),
            statuses=statuses.over(document.get("status", {}), document.get("status_if_body", ())),
            facts=facts_of({**facts, **document.get("facts", {})}),
            verify=tuple(map(Check.of, document.get("verify", ()))),
            if_match=document.get("if_match"),
            if_none_match=document.get("if_none_match"),
            replaces=document.get("on_conflict") == "replace",
            asks_first=document.get("asks_first", False),
            tells_new=document.get("tells_new", True),
            ranges=document.get("ranges", True),
            listing=None if listing is None else Listing.of(listing),
        )

    def sources(self) -> frozenset[str]:
        """Return where the values that it sends come from."""
        return frozenset(sent.source for sent in (*self.query.values(), *self.headers.values()))

    @property
    def is_told_in_body(self) -> bool:
        """Whether facts stand in the body of the answer."""
        return any(fact.place.kind in ("json", "text") for fact in self.facts.values())


def check_pattern(pattern: str, where: str) -> re.Pattern[str]:
    """Return the regular expression.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        message = f"The profile is not valid at {where!r}: {pattern!r:.100} is no pattern"
        raise InvalidRequestError(f"{message} ({error}).") from error
