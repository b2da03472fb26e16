"""Where an answer tells a fact: in a header, in a JSON document, as text; read without guessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError, TransportError
from kvstore.profiles.codecs import decode
from kvstore.values import DEFAULT_MIMETYPE, Record

#: Spelling of a fact where a profile does not say.
_USUAL = {
    "size": "int",
    "modified": "http-date",
    "created": "http-date",
    "digest": "repr-digest",
    "metadata": "json",
}
#: What the decoded fact must be.
_KINDS: dict[str, tuple[type, ...]] = {
    "size": (int,),
    "modified": (int, float),
    "created": (int, float),
    "metadata": (dict,),
}

#: Gives what stands at a place, None if nothing does.
Finder: TypeAlias = Callable[["Place"], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """``header:ETag``, ``json:/size``, ``text``, ``const:…``.

    In lists also ``line``, ``column:0`` and ``xml:…``.
    """

    kind: str
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Place:
        """Return the place that *text* names."""
        kind, _, name = text.partition(":")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Fact:
    """A place, and how the fact is spelled there."""

    place: Place
    codec: str = "str"
    #: Whether an answer without it is none about a key.
    required: bool = False

    @classmethod
    def of(cls, document: str | Mapping[str, Any], name: str = "") -> Fact:
        """Return the fact that a profile describes; *name* decides how it is spelled usually."""
        if isinstance(document, str):
            document = {"from": document}
        codec = document.get("codec", _USUAL.get(name, "str"))
        return cls(Place.of(document["from"]), codec, document.get("required", False))

    def read(self, find: Finder) -> Any:
        """Return the fact, None where it is not told.

        Raises:
            TransportError: what stands there is spelled otherwise.
        """
        value = self.place.name if self.place.kind == "const" else find(self.place)
        if value is None or value == "":
            return None
        if self.codec == "json" and self.place.kind == "json":
            return value
        try:
            return decode(self.codec, value)
        except InvalidRequestError as error:
            raise TransportError(f"The server sent {self.place}: {error.message}") from error


def facts_of(document: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the facts of a profile's table, by name."""
    return {name: Fact.of(fact, name) for name, fact in document.items()}


def read_facts(facts: Mapping[str, Fact], find: Finder) -> dict[str, Any]:
    """Return all the facts that are told.

    Raises:
        TransportError: one is spelled otherwise, or of another kind.
    """
    told: dict[str, Any] = {}
    for name, fact in facts.items():
        value: Any
        try:
            value = fact.read(find)
        except TransportError:
            if fact.codec == "etag":  # a weak tag proves less than a revision must, and is none
                continue
            raise
        if value is None:
            continue
        kinds = _KINDS.get(name, (str, int, float))
        is_negative = name == "size" and isinstance(value, int) and value < 0
        if not isinstance(value, kinds) or isinstance(value, bool) or is_negative:
            raise TransportError(f"The server sent {value!r:.100} as {name} ({fact.place}).")
        told[name] = value
    return told


def lacking(facts: Mapping[str, Fact], told: Mapping[str, Any]) -> str | None:
    """Return the name of a required fact that is not told."""
    return next((name for name, fact in facts.items() if fact.required and name not in told), None)


def record_of(key: str, told: Mapping[str, Any], metadata: JsonObject) -> Record:
    """Return the record of *key*; its size is -1 where it is not told."""
    version = told.get("version")
    return Record(
        key=key,
        metadata=metadata,
        size=told.get("size", -1),
        created=_seconds(told.get("created")),
        modified=_seconds(told.get("modified")),
        mimetype=told.get("mimetype") or DEFAULT_MIMETYPE,
        revision=None if version is None else str(version),
        digest=told.get("digest"),
    )


def at_pointer(document: Any, pointer: str) -> Any:
    """Return what stands at a JSON pointer (RFC 6901), None if nothing does."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
