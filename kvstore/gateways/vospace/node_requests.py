"""``/nodes``: making, reading, changing and deleting nodes (VOSpace 2.1 section 6)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from kvstore.errors import ConflictError, KeyNotFoundError, UnavailableError
from kvstore.gateways.vospace.asking import Asking, see_other, xml_reply
from kvstore.gateways.vospace.checksums import FOR_ONE
from kvstore.gateways.vospace.faults import denied, duplicate, invalid_argument, not_found
from kvstore.gateways.vospace.listing import list_node
from kvstore.gateways.vospace.names import AUTO, NULL, name_of, quote_path, read_path
from kvstore.gateways.vospace.node_documents import Given, check_uri, document_of, read_node
from kvstore.gateways.vospace.patches import Patch, patch
from kvstore.gateways.vospace.properties import properties_of
from kvstore.gateways.vospace.tree import CONTAINER, DATA, LINK, Node, Tree
from kvstore.gateways.vospace.trees import delete_tree
from kvstore.server.answers import Reply
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Permissions
from kvstore.writes import Change, Condition

_T = TypeVar("_T")
#: How often a change is made anew that others came between.
TRIES = 20


async def get_node(asking: Asking, path: str) -> Reply:
    """Answer GET: the document of a node, with the children of a container."""
    asked = asking.parameters()
    node_path = read_path(path)
    if asked.get("VIEW") in ("data", "binaryview"):
        return see_other(f"{asking.base}/files/{quote_path(node_path)}")
    return await asking.site.workers.run_long(list_node, asking, node_path, asked)


async def put_node(asking: Asking, path: str) -> Reply:
    """Answer PUT: 201 and the node that was made."""
    body = await asking.document()

    def make() -> Reply:
        given = read_node(body)
        node_path = read_path(path)
        check_uri(asking.space, given, node_path)
        if name_of(node_path) == AUTO:
            node_path = node_path.removesuffix(AUTO) + secrets.token_hex(8)
        node = create(asking.tree, node_path, given)
        return _told(asking, node, status=201)

    return await asking.site.workers.run(make)


async def post_node(asking: Asking, path: str) -> Reply:
    """Answer POST: 200 and the node with the properties that were set."""
    body = await asking.document()

    def change() -> Reply:
        given = read_node(body)
        node_path = read_path(path)
        check_uri(asking.space, given, node_path)
        tree = asking.tree
        node = tree.find(node_path)
        if node is None:
            raise not_found(node_path)
        if _class_of(given.kind) != _class_of(node.kind):
            message = f"The node is a {node.kind}, and stays that; it is no {given.kind}."
            raise invalid_argument(message)
        md5 = asking.sums.budget(FOR_ONE)
        set_properties(tree, node_path, given, lambda node: md5.of(asking.site, node))
        found = tree.find(node_path)
        if found is None:
            raise not_found(node_path)
        return _told(asking, found)

    return await asking.site.workers.run(change)


async def delete_node(asking: Asking, path: str) -> Reply:
    """Answer DELETE: 204; what a container holds goes with it."""

    def delete() -> Reply:
        node_path = read_path(path)
        if not node_path:
            raise denied("The root of the space stays.")
        tree = Tree(asking.site, asking.space)  # a large one takes its time
        node = tree.find(node_path)
        if node is None:
            tree.check_no_link(node_path)
            raise not_found(node_path)
        delete_tree(tree, node)
        return Reply(204, [])

    return await asking.site.workers.run_long(delete)


def create(tree: Tree, path: str, given: Given) -> Node:
    """Make a node, and return it.

    Raises:
        Fault: DuplicateNode, ContainerNotFound, LinkFound, InvalidArgument.
        AuthorizationError: the name is taken by what the caller may not see.
    """
    if not path or tree.find(path) is not None:
        raise duplicate(path)
    if name_of(path) == NULL:
        raise invalid_argument(f"Nothing is kept under the name {NULL!r}.")
    tree.check_parent(path)
    node = Node(path, given.kind, None, given.target)
    made = patch(tree.site, node, given.properties, None, is_new=True)
    if given.kind == LINK:
        made.facts |= {"type": LINK, "target": given.target}
    elif given.kind not in (DATA, CONTAINER):
        made.facts["type"] = given.kind
    change = Change(
        data=Source(b""),
        metadata=made.done(),
        permissions=made.permissions,
        condition=creating(tree.site),
    )
    try:
        tree.site.writer.write(node.key, change)
    except ConflictError:
        raise duplicate(path) from None
    found = tree.find(path)
    if found is None:
        raise not_found(path)  # somebody has deleted it already
    return found


def set_properties(
    tree: Tree, path: str, given: Given, md5_of: Callable[[Node], str | None]
) -> None:
    """Set what is given of the properties of a node.

    Raises:
        Fault: NodeNotFound; as for :func:`patch`.
        AuthorizationError: the caller may not.
        UnavailableError: others change it all the time.
    """
    site = tree.site

    def change() -> None:
        node = tree.find(path)
        if node is None:
            raise not_found(path)
        _ = site.writer
        if node.record is not None:  # who may not change it is told so, where nothing changes, too
            site.demand_change(node.record.key, Change(metadata={}))
        made = patch(site, node, given.properties, md5_of(node))
        target = given.target if node.kind == LINK else None
        if target is not None and target != node.target:
            made.facts["target"], made.is_changed = target, True
        if made.is_changed or made.permissions is not None:
            _store(site, node, made)

    until_done(change, path)


def until_done(step: Callable[[], _T], path: str) -> _T:
    """Do a step that reads and writes, anew while others come between.

    Raises:
        UnavailableError: they do so all the time.
    """
    for _ in range(TRIES):
        try:
            return step()
        except (ConflictError, KeyNotFoundError):
            continue
    raise UnavailableError(f"Others change {path!a:.200} all the time; try again.", retry_after=1)


def creating(site: Site) -> Condition:
    """Return the condition that a key is new, where the store knows conditions."""
    return Condition(create_only=bool(site.info.get("conditional")))


def _store(site: Site, node: Node, made: Patch) -> None:
    if not node.path:
        raise denied("The root of the space has no properties that could be set.")
    metadata = made.done() if made.is_changed else None
    permissions: Permissions | None = made.permissions
    if node.record is None:  # a container that is there because of what it holds
        condition = creating(site)
        change = Change(data=Source(b""), metadata=metadata or {}, permissions=permissions)
    else:
        condition = Condition(node.record.revision if site.info.get("conditional") else None)
        change = Change(metadata=metadata, permissions=permissions)
    site.writer.write(node.key, replace(change, condition=condition))


def _class_of(kind: str) -> str:
    return kind if kind in (CONTAINER, LINK) else DATA


def _told(asking: Asking, node: Node, *, status: int = 200) -> Reply:
    md5 = asking.sums.budget(FOR_ONE).of(asking.site, node)
    text = "".join(document_of(asking.space, node, properties_of(node, md5)))
    return xml_reply(text, status=status)
