"""URL templates that work in both directions: a client expands one, a server matches it.

The law is ``template.match(template.expand(base=b, **values), base=b) == values``.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import quote, unquote_to_bytes

from kvstore.errors import InvalidKeyError, InvalidRequestError

_SLOTS = ("base", "key", "part")
_CACHED = 256

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*")
#: A character that no quoted value of a slot other than the key holds, so that it ends one.
_DIVIDER = re.compile(r"[^A-Za-z0-9._~%-]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class _Quoting:
    """How a key is written at one place of a URL."""

    safe: str
    is_plain: Callable[[str], re.Match[str] | None]


# What RFC 3986 allows in a path, and in a query less what separates its parameters (& = + ;).
_PATH_SAFE = "/~!$&'()*+,;=:@"
_IN_PATH = _Quoting(_PATH_SAFE, re.compile(r"[A-Za-z0-9._~/!$&'()*+,;=:@-]*").fullmatch)
_IN_QUERY = _Quoting("/~!$'()*,:@", re.compile(r"[A-Za-z0-9._~/!$'()*,:@-]*").fullmatch)


@dataclass(frozen=True, slots=True)
class Template:
    """A URL with the slots ``{base}``, ``{key}`` and ``{part}``, such as ``{base}/{key}/{part}``.

    ``{base}`` is inserted as it is. In a path a key keeps its ``/`` and the other characters that
    RFC 3986 allows there; after a ``?`` also ``& = + ;`` are escaped. Every other slot is
    escaped but for unreserved characters, so it holds no ``/``. A template does not judge keys;
    :func:`kvstore.keys.check_key` does. Thread-safe.

    Args:
        text: the template. ``{base}`` is optional and comes first, ``{key}`` is required.
        extra: names of further slots that ``text`` may use.
        safe: what stays as it is in a path, where a server wants more to be escaped.

    Raises:
        InvalidRequestError: for a slot that is unknown, positional, repeated, formatted, an
            attribute or an item; two slots with nothing between them; no ``{key}``; characters
            that no URL holds, a fragment (it is never sent), or ``.`` and ``..`` segments.
    """

    text: str
    extra: tuple[str, ...] = ()
    safe: str | None = field(default=None, repr=False)
    #: Names of the slots that are used, in their order.
    slots: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _pieces: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, compare=False)
    _is_ambiguous: bool = field(init=False, repr=False, compare=False)
    _bound: dict[tuple[object, ...], tuple[str, str, _Quoting]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _patterns: dict[str, re.Pattern[str]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        pieces = _parsed(self.text, frozenset(_SLOTS + self.extra))
        slots = tuple(slot for _, slot in pieces if slot is not None)
        _check_slots(self.text, slots)
        _check_segments(self.text)
        _quoting_of(self.safe)
        between = [
            literal
            for (_, before), (literal, after) in pairwise(pieces)
            if before != "base" and after is not None
        ]
        if "" in between:
            raise _bad(self.text, "has two slots with nothing between them")
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "_pieces", pieces)
        object.__setattr__(self, "_is_ambiguous", not all(map(_DIVIDER.search, between)))

    def __reduce__(self) -> tuple[type[Template], tuple[str, tuple[str, ...], str | None]]:
        return Template, (self.text, self.extra, self.safe)

    def expand(self, *, base: str = "", key: str, **values: str) -> str:
        """The URL for ``key``; ``values`` fill the other slots, and those not used are ignored.

        Raises:
            InvalidKeyError: ``key`` has a lone surrogate, so that it has no UTF-8.
            InvalidRequestError: a slot has no value, or one that :meth:`match` could not give
                back: ``.`` or ``..`` in a path, or ``a.b`` for the part of ``{key}.{part}``.
        """
        prefix, suffix, quoting = self._bound.get((base, *values.items())) or self._bind(
            base, values
        )
        url = f"{prefix}{key if quoting.is_plain(key) else _quoted(key, quoting.safe)}{suffix}"
        if self._is_ambiguous:
            self._check_inverse(url, base, {**values, "key": key})
        return url

    def match(self, url: str, *, base: str = "") -> dict[str, str] | None:
        """The values of all slots but ``base``, decoded; ``None`` if ``url`` has another shape.

        The key takes as much as it can: in ``{base}/{key}/{part}`` the last segment is the part,
        however often ``/`` or the name of a part occurs before it. ``+`` stays ``+``. A character
        that is not ASCII counts as its UTF-8.

        Args:
            url: what :meth:`expand` gives; for a server, whose base is a path, the path still
                percent-encoded (and ``?`` and the query, where the template has one).

        Raises:
            InvalidKeyError: the shape is right, but the key has a malformed escape or is not UTF-8.
        """
        pattern = self._patterns.get(base) or self._compile(base)
        found = pattern.fullmatch(url)
        if found is None:
            return None
        values = {}
        for slot, raw in found.groupdict().items():
            value = _unquoted(raw)
            if value is None and slot == "key":
                raise InvalidKeyError(
                    f"The URL holds the key {raw!r:.100}, which is not percent-encoded UTF-8."
                )
            if value is None:
                return None
            values[slot] = value
        return values

    def _placed(self, base: str) -> Iterator[tuple[str, str | None, bool]]:
        """Pieces with the base inserted: literal, slot after it, whether that is in the query."""
        in_query = False
        for literal, slot in self._pieces:
            text = literal + base if slot == "base" else literal
            in_query = in_query or "?" in text
            yield text, None if slot == "base" else slot, in_query

    def _bind(self, base: str, values: dict[str, str]) -> tuple[str, str, _Quoting]:
        prefix, quoting = "", _IN_PATH
        done: list[str] = []
        for literal, slot, in_query in self._placed(base):
            done.append(literal)
            if slot == "key":
                prefix, quoting = "".join(done), _IN_QUERY if in_query else _quoting_of(self.safe)
                done.clear()
            elif slot is not None:
                done.append(self._quoted_value(slot, values.get(slot), in_query))
        bound = prefix, "".join(done), quoting
        if len(self._bound) >= _CACHED:
            self._bound.clear()
        self._bound[base, *values.items()] = bound
        return bound

    def _quoted_value(self, slot: str, value: str | None, in_query: bool) -> str:
        if value is None:
            raise InvalidRequestError(
                f"URL template {self.text!r:.100} needs a value for {slot!r}."
            )
        try:
            quoted = quote(value, safe="")
        except UnicodeEncodeError as exc:
            raise InvalidRequestError(f"{value!r:.100} for {slot!r} has no UTF-8.") from exc
        if value in (".", "..") and not in_query:  # HTTP clients remove such segments
            raise InvalidRequestError(f"{value!r} for {slot!r} cannot stand in a URL's path.")
        return quoted

    def _compile(self, base: str) -> re.Pattern[str]:
        parts = []
        repeat = "*?"  # what stands before the key is as short as it can be
        for literal, slot, in_query in self._placed(base):
            parts.append(re.escape(literal))
            if slot == "key":
                parts.append("(?P<key>[^&#]*)" if in_query else "(?P<key>[^?#]*)")
                repeat = "*"
            elif slot is not None:
                parts.append(f"(?P<{slot}>{'[^&#]' if in_query else '[^/?#]'}{repeat})")
        pattern = re.compile("".join(parts))
        if len(self._patterns) >= _CACHED:
            self._patterns.clear()
        self._patterns[base] = pattern
        return pattern

    def _check_inverse(self, url: str, base: str, values: dict[str, str]) -> None:
        expected = {slot: values[slot] for slot in self.slots if slot != "base"}
        try:
            found = self.match(url, base=base)
        except InvalidKeyError:  # an escape was split: "{base}/{key}2F{part}" with the part "/"
            found = None
        if found != expected:
            raise InvalidRequestError(
                f"URL template {self.text!r:.100} cannot tell where one value ends and the next "
                f"begins in {expected!r:.100}."
            )


@functools.cache
def _quoting_of(safe: str | None) -> _Quoting:
    """How a key is written in a path where only *safe* stays as it is."""
    if safe is None:
        return _IN_PATH
    if not set(safe) <= set(_PATH_SAFE):
        raise InvalidRequestError(f"A path can keep {_PATH_SAFE!r} as it is, not {safe!r:.100}.")
    return _Quoting(safe, re.compile(f"[A-Za-z0-9._~{re.escape(safe)}-]*").fullmatch)


def _bad(text: object, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"URL template {text!r:.100} {problem}.")


def _parsed(text: object, allowed: frozenset[str]) -> tuple[tuple[str, str | None], ...]:
    """Pairs of a literal and the slot after it (``None`` after the last literal)."""
    if not isinstance(text, str):
        raise _bad(text, "is no text")
    try:
        pieces = tuple(string.Formatter().parse(text))
    except ValueError as exc:
        raise _bad(text, f"cannot be read ({exc})") from exc
    for literal, slot, spec, conversion in pieces:
        if "#" in literal:
            raise _bad(text, "has a fragment, which is never sent to a server")
        if not _LITERAL.fullmatch(literal):
            raise _bad(text, f"holds characters that no URL holds in {literal!r:.100}")
        if slot is not None and slot not in allowed:
            raise _bad(text, f"has the unknown slot {slot!r:.100}; known are {sorted(allowed)}")
        if spec or conversion:
            raise _bad(text, f"formats the slot {slot!r}, which cannot be matched")
    return tuple((literal, slot) for literal, slot, _, _ in pieces)


def _check_slots(text: str, slots: tuple[str, ...]) -> None:
    if "key" not in slots:
        raise _bad(text, "has no slot 'key'")
    for slot in slots:
        if slots.count(slot) > 1:
            raise _bad(text, f"has the slot {slot!r} more than once")
    if "base" in slots[1:]:
        raise _bad(text, "has 'base' after another slot")


def _check_segments(text: str) -> None:
    # HTTP clients remove "." and ".." segments. A key may begin or end with "/", so that a dot
    # beside it can become such a segment: "{base}/.{key}" with the key "/a".
    path = text.partition("?")[0].replace("{key}", "")
    for segment in re.sub(r"\{\w+\}", "x", path).split("/"):
        if segment in (".", ".."):
            raise _bad(text, f"can give a path with the segment {segment!r}")


def _quoted(key: str, safe: str) -> str:
    try:
        return quote(key, safe=safe)
    except UnicodeEncodeError as exc:
        raise InvalidKeyError(f"The key {key!r:.100} has no UTF-8.", key=key) from exc


def _unquoted(raw: str) -> str | None:
    """Percent-decoded, or ``None`` for a malformed escape and for what is not UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BAD_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeError:
        return None
