"""getNode: one node, with as many of the children of a container as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from kvstore.gateways.vospace.asking import XML, Asking
from kvstore.gateways.vospace.checksums import FOR_LIST, FOR_ONE
from kvstore.gateways.vospace.faults import Fault, invalid_argument, invalid_uri
from kvstore.gateways.vospace.markup import encoded
from kvstore.gateways.vospace.names import CORE, parent_of
from kvstore.gateways.vospace.node_documents import child_of, document_of
from kvstore.gateways.vospace.properties import properties_of
from kvstore.gateways.vospace.tree import CONTAINER, Node, Tree
from kvstore.server.answers import Reply
from kvstore.server.handlers.patience import Patience
from kvstore.server.handlers.spooling import spooled

#: Children that are put in another order than that of their names; more are refused.
_MOST = 10_000
_DETAILS = ("min", "max", "properties")


def list_node(asking: Asking, path: str, asked: dict[str, str]) -> Reply:
    """Return the document of the node at *path*, as the parameters of the URL want it.

    Raises:
        Fault: NodeNotFound; InvalidArgument: a parameter; InvalidURI: a page that is to begin with
            what is not there; OptionNotSupported: an order that there is not.
    """
    detail = asked.get("DETAIL", "max").lower()
    if detail not in _DETAILS:
        raise invalid_argument(f"detail is one of {', '.join(_DETAILS)}, not {detail!r:.50}.")
    limit = _limit(asked.get("LIMIT"))
    order = _order(asked.get("SORT"), asked.get("ORDER"))
    site = asking.site
    patience = Patience(asking.exchange, site.limits.query_time)
    tree = Tree(site, asking.space, patience)
    node = tree.get(path)
    one, many = asking.sums.budget(FOR_ONE), asking.sums.budget(FOR_LIST)

    def children() -> Iterator[str]:
        found = islice(_children(tree, node, asked.get("URI"), order), limit)
        for child in found:
            told = properties_of(child, many.of(site, child)) if detail != "min" else ()
            yield child_of(asking.space, child, told)
            patience.renew()

    within = children() if node.kind == CONTAINER and limit != 0 else iter(())
    own = properties_of(node, one.of(site, node)) if detail != "min" else ()
    return spooled([XML], encoded(document_of(asking.space, node, own, within)))


def _children(tree: Tree, node: Node, first: str | None, order: _Order | None) -> Iterator[Node]:
    begin = None if first is None else _child_path(tree, node, first)
    if order is not None:
        yield from _sorted(tree, node, begin, order)
        return
    after = begin
    if begin is not None:
        one = tree.find(begin)
        if one is not None:  # else it was deleted since it was named: what comes behind is next
            after = one.key
            yield one
    yield from tree.children(node.path, after)


def _sorted(tree: Tree, node: Node, begin: str | None, order: _Order) -> Iterator[Node]:
    """The children in another order; only what they are sorted by is in memory."""
    places = [(order.key(one), one.path) for one in islice(tree.children(node.path), _MOST + 1)]
    if len(places) > _MOST:
        message = f"More than {_MOST} nodes come in the order of their names only."
        raise Fault("OptionNotSupported", 400, message)
    places.sort(reverse=order.is_reverse)
    paths = [path for _, path in places]
    if begin is not None:
        paths = paths[paths.index(begin) :] if begin in paths else []
    for path in paths:
        one = tree.find(path)
        if one is not None:
            yield one


def _child_path(tree: Tree, node: Node, uri: str) -> str:
    path = tree.space.path(uri)
    if not path or parent_of(path) != node.path:
        raise invalid_uri(f"{uri!r:.200} is no child of the node.")
    return path


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid_argument(f"limit is a number from 0, not {text!r:.50}.")
    return int(text)


def _size(node: Node) -> float:
    return node.record.size if node.is_data and node.record is not None else 0


def _date(node: Node) -> float:
    changed = node.changed if node.record is None else node.record.modified
    return changed or 0.0


@dataclass(frozen=True, slots=True)
class _Order:
    """How to sort; not in the standard, but what ``vls`` asks for."""

    key: Callable[[Node], float]
    is_reverse: bool


_SORTS: dict[str, Callable[[Node], float]] = {CORE + "length": _size, CORE + "date": _date}


def _order(sort: str | None, order: str | None) -> _Order | None:
    if order not in (None, "asc", "desc"):
        raise invalid_argument(f"order is asc or desc, not {order!r:.50}.")
    if sort is None and order in (None, "asc"):
        return None
    if sort is not None and sort not in _SORTS:
        raise Fault("OptionNotSupported", 400, f"Nodes cannot be sorted by {sort!r:.100}.")
    key = (lambda _: 0.0) if sort is None else _SORTS[sort]
    return _Order(key, order == "desc")
