"""Keys as a tree of nodes: what stands at a path, in a container, and behind a link.

``lab/run1`` is the key of the node of that path. A container is there because a key lies below it,
or because of a marker, the key with a slash at its end: an empty container, and what is known of
one. A link is a key without data whose metadata say where it leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kvstore.documents import JsonObject
from kvstore.errors import InvalidKeyError
from kvstore.gateways.vospace.faults import (
    container_not_found,
    invalid_argument,
    invalid_uri,
    link_found,
    not_found,
)
from kvstore.gateways.vospace.names import Space, below, name_of, parent_of
from kvstore.keys import check_key
from kvstore.query import Query
from kvstore.server.handlers.folders import Folder, entries
from kvstore.server.site import Site
from kvstore.values import Record

#: The field of the metadata for what only this protocol knows.
FIELD = "vospace"

DATA, CONTAINER, LINK = "DataNode", "ContainerNode", "LinkNode"
#: Kinds of data nodes that are told as what they were made as.
SUBTYPES = ("StructuredDataNode", "UnstructuredDataNode")
#: Links that are followed one after the other.
_HOPS = 8
#: Keys that are in memory at a time: the metadata of each may have a megabyte.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Node:
    """What stands at one path."""

    path: str
    #: The name of its type in the schema.
    kind: str
    #: The key that holds what is known of it; None for a container without a marker.
    record: Record | None = None
    #: Where a link leads.
    target: str | None = None
    #: Of a container without a marker: when something in it was changed, as far as that is known.
    changed: float | None = None

    @property
    def key(self) -> str:
        """The key that holds what is known of it, or would."""
        return f"{self.path}/" if self.kind == CONTAINER else self.path

    @property
    def is_data(self) -> bool:
        """Whether it has bytes."""
        return self.kind not in (CONTAINER, LINK)

    @property
    def facts(self) -> JsonObject:
        """What only this protocol knows of it."""
        return facts_of(self.record)


def facts_of(record: Record | None) -> JsonObject:
    """Return what only this protocol knows of a key."""
    found: Any = None if record is None else record.metadata.get(FIELD)
    return found if isinstance(found, dict) else {}


class Tree:
    """The nodes that a caller sees. Its methods block.

    Args:
        halt: called for each key that is looked at; what it raises ends the search.
    """

    def __init__(self, site: Site, space: Space, halt: Callable[[], object] | None = None) -> None:
        self.site = site
        self.space = space
        self._halt = halt

    # -- one node --------------------------------------------------------------------------

    def find(self, path: str) -> Node | None:
        """Return the node at *path*, itself where it is a link; None if there is none."""
        if not path:
            return Node("", CONTAINER)
        record = self.site.find(path)
        return self._container(path) if record is None else _node(record)

    def get(self, path: str) -> Node:
        """As :meth:`find`, behind links in the way.

        Raises:
            Fault: NodeNotFound; InvalidURI: a link leads out of this space, or in a circle.
        """
        for _ in range(_HOPS):
            node = self.find(path)
            if node is not None:
                return node
            other = self._detour(path)
            if other is None:
                raise not_found(path)
            path = other
        raise invalid_uri(f"Too many links follow one another to {path!r:.200}.")

    def source(self, path: str) -> Node:
        """Return the node whose bytes are those of *path*, behind all links.

        Raises:
            Fault: NodeNotFound; InvalidURI: as for :meth:`get`.
        """
        for _ in range(_HOPS):
            node = self.get(path)
            if node.kind != LINK:
                return node
            path = self.space.path(node.target or "")
        raise invalid_uri(f"Too many links follow one another from {path!r:.200}.")

    def place(self, path: str) -> str:
        """Return the path that bytes sent to *path* go to: that of a link's target, if it is one.

        Raises:
            Fault: ContainerNotFound; InvalidArgument: a container; InvalidURI: as for :meth:`get`.
        """
        for _ in range(_HOPS):
            node = self.find(path)
            if node is None:
                other = self._detour(path)
                if other is None:
                    self.check_parent(path)
                    return path
                path = other
            elif node.kind == LINK:
                path = self.space.path(node.target or "")
            elif node.kind == CONTAINER:
                raise invalid_argument(f"A container holds no bytes: {path!r:.200}.")
            else:
                return path
        raise invalid_uri(f"Too many links follow one another to {path!r:.200}.")

    def check_parent(self, path: str) -> None:
        """Refuse to make a node where there is no container for it.

        Raises:
            Fault: ContainerNotFound; LinkFound: a link stands in the way.
        """
        parent = parent_of(path)
        node = self.find(parent)
        if node is not None and node.kind == CONTAINER:
            return
        self.check_no_link(parent)
        raise container_not_found(parent)

    def check_no_link(self, path: str) -> None:
        """Refuse a path of which a part is a link.

        Raises:
            Fault: LinkFound.
        """
        found = self._first_link(path)
        if found is not None:
            raise link_found(found.path)

    # -- many nodes ------------------------------------------------------------------------

    def children(self, path: str, after: str | None = None) -> Iterator[Node]:
        """Yield the nodes in a container, in the order of their keys.

        Args:
            after: the key, or the beginning of keys, behind which to go on.
        """
        prefix = below(path)
        query = Query(prefix=prefix, after=after, halt=self._halt)
        for entry in entries(query, "/", self.site.records):
            if not isinstance(entry, Folder):
                if entry.key != prefix:  # its own marker
                    yield _node(entry)
                continue
            inner = entry.key[:-1]
            # A name cannot be empty, and of a key with keys below it only the key can be told.
            if name_of(inner) and self.site.find(inner) is None:
                node = self._container(inner)
                if node is not None:
                    yield node

    def batches(self, prefix: str) -> Iterator[list[Record]]:
        """Yield all keys that begin with *prefix*, some at a time, so that they can be changed."""
        after: str | None = None
        while True:
            query = Query(prefix=prefix, after=after, limit=_BATCH, halt=self._halt)
            found = list(self.site.records(query))
            if found:
                yield found
            if len(found) < _BATCH:
                return
            after = found[-1].key

    # -- containers and links --------------------------------------------------------------

    def _container(self, path: str) -> Node | None:
        try:
            marker = self.site.find(check_key(f"{path}/"))
        except InvalidKeyError:
            return None  # no key is so long
        if marker is not None:
            return Node(path, CONTAINER, marker)
        query = Query(prefix=below(path), limit=1, halt=self._halt)
        for record in self.site.records(query):
            return Node(path, CONTAINER, changed=record.modified)
        return None

    def _first_link(self, path: str) -> Node | None:
        place = 0
        while place >= 0:
            place = path.find("/", place + 1)
            part = path if place < 0 else path[:place]
            record = self.site.find(part) if part else None
            if record is not None:
                node = _node(record)
                if node.kind == LINK:
                    return node
        return None

    def _detour(self, path: str) -> str | None:
        """Where a path leads that goes through a link; None if it goes through none."""
        link = self._first_link(parent_of(path))
        if link is None:
            return None
        rest = path[len(link.path) + 1 :]
        return f"{below(self.space.path(link.target or ''))}{rest}"


def _node(record: Record) -> Node:
    facts = facts_of(record)
    kind, target = facts.get("type"), facts.get("target")
    # Somebody else may have written data where a link was: then it is one no more.
    if kind == LINK and isinstance(target, str) and record.size == 0:
        return Node(record.key, LINK, record, target)
    return Node(record.key, kind if kind in SUBTYPES else DATA, record)
