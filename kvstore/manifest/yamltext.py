"""The little of YAML that a manifest needs, from whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import yaml

from kvstore.errors import InvalidRequestError

FILE_NAME = "MANIFEST.yaml"

#: What is read: everything that is no list or mapping is text.
Node: TypeAlias = "str | list[Node] | dict[str, Node]"

_DEPTH = 16


def parse_yaml(text: bytes) -> dict[str, Node]:
    """Return a YAML document that is a mapping, of which every scalar stays text.

    It is made of the events of the parser: no tag makes an object, and nothing is named twice.

    Raises:
        InvalidRequestError: no YAML, or YAML of a kind that no manifest needs.
    """
    try:
        root = _Builder(text).build()
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        said = " ".join(str(error).split())
        raise wrong(f"it is no YAML ({said:.200})") from None
    return as_mapping(root, "the document")


class _Builder:
    """Makes lists, mappings and text of events."""

    def __init__(self, text: bytes) -> None:
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        self._events = yaml.parse(text, Loader=loader)

    def build(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise wrong("it is more than one document")
                root = self._node(next(self._events), 0)
        if root is None:
            raise wrong("it is empty")
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise wrong("it has an anchor or an alias")
        if getattr(event, "tag", None) not in (None, "!"):
            raise wrong("it has a tag")
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if depth >= _DEPTH:
            raise wrong(f"it is nested more than {_DEPTH} deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._node(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        return self._pairs(depth)

    def _pairs(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for event in self._until(yaml.MappingEndEvent):
            name = self._node(event, depth + 1)
            if not isinstance(name, str) or name in found:
                raise wrong(f"a mapping has the name {name!r:.60} twice, or it is no text")
            found[name] = self._node(next(self._events), depth + 1)
        return found

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self._events), end):
            yield event


def dump_yaml(document: Mapping[str, Any]) -> bytes:
    """Return a document as YAML; :class:`Quoted` text is in quotes."""
    text = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    assert isinstance(text, bytes)  # noqa: S101 - as an encoding was given
    return text


def as_mapping(node: Node, what: str) -> dict[str, Node]:
    """Return a node that is a mapping; InvalidRequestError if it is none."""
    if not isinstance(node, dict):
        raise wrong(f"{what} is no mapping")
    return node


def wrong(reason: str) -> InvalidRequestError:
    """Return the error for a manifest that cannot be used."""
    return InvalidRequestError(f"{FILE_NAME} cannot be used: {reason}.")


class Quoted(str):
    """Text in quotes, whatever it looks like: ``12e4`` is a number to some readers."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")
)
