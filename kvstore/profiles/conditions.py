"""Entity tags, HTTP dates and conditional requests (RFC 9110 sections 5.6.7, 8.8 and 13).

A key's *revision* is the opaque part of its strong entity tag.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum

from kvstore.errors import InvalidRequestError

_OPAQUE = re.compile(r"[\x21\x23-\x7e\x80-\xff]*")
_ETAG = re.compile(rf'(W/)?"({_OPAQUE.pattern})"')
_LIST_GAP = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_HTTP_DATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{{2}} {_MONTH} [1-9][0-9]{{3}} {_TIME} GMT"
    rf"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    rf"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} [0-9 ][0-9] {_TIME} [1-9][0-9]{{3}}"
)


@dataclass(frozen=True, slots=True)
class ETag:
    """One entity tag; ``str()`` gives its spelling in a header."""

    weak: bool
    opaque: str

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'


@dataclass(frozen=True, slots=True)
class ETags:
    """The value of ``If-Match`` or ``If-None-Match``: ``*``, or a list of tags."""

    star: bool
    tags: tuple[ETag, ...] = ()

    def matches_strongly(self, revision: str | None) -> bool:
        """Whether ``If-Match`` holds; ``None`` stands for a missing key."""
        if self.star or revision is None:
            return revision is not None
        return any(not tag.weak and tag.opaque == revision for tag in self.tags)

    def matches_weakly(self, revision: str | None) -> bool:
        """Whether ``If-None-Match`` finds the revision; ``None`` stands for a missing key."""
        if self.star or revision is None:
            return revision is not None
        return any(tag.opaque == revision for tag in self.tags)


class Verdict(StrEnum):
    """What the conditions of a request say."""

    PROCEED = "proceed"
    #: Answer 304, without a body.
    NOT_MODIFIED = "not-modified"
    #: Answer 412, with nothing changed.
    FAILED = "failed"


def format_etag(revision: str) -> str:
    """The strong entity tag of a revision.

    Raises:
        InvalidRequestError: ``revision`` holds what a tag cannot, such as a space or a quote.
    """
    if not _OPAQUE.fullmatch(revision):
        raise InvalidRequestError(f"The revision {revision!r:.100} cannot stand in an entity tag.")
    return f'"{revision}"'


def parse_etag(value: str) -> ETag:
    """The tag of an ``ETag`` field.

    Raises:
        InvalidRequestError: ``value`` is no entity tag.
    """
    tag = _ETAG.fullmatch(value.strip(" \t"))
    if tag is None:
        raise InvalidRequestError(f"{value!r:.100} is no entity tag.")
    return ETag(weak=tag[1] is not None, opaque=tag[2])


def parse_etags(value: str) -> ETags:
    """The tags of an ``If-Match`` or ``If-None-Match`` field (its lines joined by ``", "``).

    Raises:
        InvalidRequestError: ``value`` is neither ``*`` nor a list with at least one entity tag.
    """
    text = value.strip(" \t,")
    if value.strip(" \t") == "*":
        return ETags(star=True)
    tags = []
    at = 0
    while at < len(text):
        tag = _ETAG.match(text, at)
        gap = _LIST_GAP.match(text, tag.end()) if tag else None
        if tag is None or gap is None:
            raise InvalidRequestError(f"{value!r:.100} is no list of entity tags.")
        tags.append(ETag(weak=tag[1] is not None, opaque=tag[2]))
        at = gap.end()
    if not tags:
        raise InvalidRequestError(f"{value!r:.100} names no entity tag.")
    return ETags(star=False, tags=tuple(tags))


def format_http_date(seconds: float) -> str:
    """Seconds since the epoch as an HTTP date, in whole seconds."""
    return format_datetime(datetime.fromtimestamp(math.floor(seconds), UTC), usegmt=True)


def parse_http_date(value: str) -> int | None:
    """Seconds since the epoch of an HTTP date, in any of its three forms; ``None`` for others."""
    if not _HTTP_DATE.fullmatch(value):
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:  # such as 31 February
        return None
    return int(moment.replace(tzinfo=UTC).timestamp())


def evaluate(
    method: str,
    current: str | None,
    *,
    if_match: list[str] | None = None,
    if_none_match: list[str] | None = None,
    if_modified_since: list[str] | None = None,
    if_unmodified_since: list[str] | None = None,
    last_modified: float | None = None,
) -> Verdict:
    """Decide a conditional request, in the order of RFC 9110 section 13.2.2.

    Each field is given as the values of its lines; none or an empty list if it is absent. A date
    is asked only where its entity tag field is absent, and is ignored if it is no HTTP date, if
    there are two, or if there is no ``last_modified`` (sections 13.1.3 and 13.1.4).

    Args:
        method: of the request, in upper case; GET and HEAD read, all others write.
        current: the revision of the key, ``None`` if there is no such key.
        last_modified: of the key, in seconds since the epoch.

    Raises:
        InvalidRequestError: an entity tag field is malformed.
    """
    match = _etags(if_match)
    none_match = _etags(if_none_match)
    reads = method in ("GET", "HEAD")
    if match is not None:
        if not match.matches_strongly(current):
            return Verdict.FAILED
    elif _is_after(last_modified, if_unmodified_since):
        return Verdict.FAILED
    if none_match is not None:
        if none_match.matches_weakly(current):
            return Verdict.NOT_MODIFIED if reads else Verdict.FAILED
    elif reads and _is_after(last_modified, if_modified_since) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def if_range_matches(value: str, revision: str | None, last_modified: float | None) -> bool:
    """Whether an ``If-Range`` field lets a range be served; else the whole data is (13.1.5).

    A tag matches only strongly, and nonsense never. A date matches the exact second of
    ``last_modified``, but only for a key without revision: two changes within a second have one
    date, and a client must not join the bytes of two revisions.

    Args:
        value: of the field.
        revision: of the key, ``None`` if the store keeps none.
        last_modified: of the key, in seconds since the epoch.
    """
    text = value.strip(" \t")
    tag = _ETAG.fullmatch(text)
    if tag is not None:
        return tag[1] is None and tag[2] == revision
    if revision is not None or last_modified is None:
        return False
    return parse_http_date(text) == math.floor(last_modified)


def _etags(lines: list[str] | None) -> ETags | None:
    return parse_etags(", ".join(lines)) if lines else None


def _is_after(last_modified: float | None, lines: list[str] | None) -> bool | None:
    """Whether the key changed after a date; ``None`` where that is not asked or not known."""
    if last_modified is None or not lines or len(lines) > 1:
        return None
    date = parse_http_date(lines[0].strip(" \t"))
    return None if date is None else math.floor(last_modified) > date
