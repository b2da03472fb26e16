"""Whole trees of nodes: deleted, copied, moved, and their properties set."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from kvstore.errors import (
    AuthorizationError,
    ConflictError,
    InvalidKeyError,
    KeyNotFoundError,
    StoreError,
    UnsupportedOperationError,
)
from kvstore.gateways.vospace.faults import Fault, denied, duplicate, invalid_uri
from kvstore.gateways.vospace.names import below
from kvstore.gateways.vospace.tree import CONTAINER, Node, Tree
from kvstore.keys import check_key
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Permissions, Record, Value
from kvstore.writes import Change, Condition

#: Bytes of the list of what a copy has made that are in memory.
_SPOOL = 1 << 20


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the nodes of a tree."""

    done: int
    failed: int


def delete_tree(tree: Tree, node: Node) -> None:
    """Delete a node with all that it holds, as one step where the store has transactions.

    Raises:
        AuthorizationError: the caller may not delete one of them; without transactions, those that
            come before it in the order of their keys are gone.
    """
    store = tree.site.writer
    if node.kind != CONTAINER:
        store.delete(node.key)
        return
    with store.transaction("delete"):
        for record in _members(tree, node):
            with contextlib.suppress(KeyNotFoundError):  # somebody else has deleted it
                store.delete(record.key)


def delete_each(tree: Tree, node: Node, halt: Callable[[], object]) -> Counts:
    """Delete a node with all that it holds, one after the other, and go on behind a failure.

    Raises:
        Exception: what *halt* raises, which is called before each.
    """

    def delete(record: Record) -> None:
        with contextlib.suppress(KeyNotFoundError):
            tree.site.writer.delete(record.key)

    return _each(tree, node, delete, halt)


def change_each(
    tree: Tree, node: Node, change: Callable[[str], None], halt: Callable[[], object]
) -> Counts:
    """Call *change* with the path of each node of a tree, and go on behind a failure.

    A container within that has no marker is not one of them: there is nothing of it to change.
    """

    def apply(record: Record) -> None:
        change(record.key.removesuffix("/"))

    if node.record is None:
        change(node.path)  # makes the marker, which is the first of all then
    return _each(tree, node, apply, halt)


def transfer_tree(
    tree: Tree, source: Node, destination: str, halt: Callable[[], object], *, keeps: bool
) -> None:
    """Copy a node with all that it holds to a path where nothing is; or move it.

    With transactions of the store that is one step. Without, all is copied before the first key is
    deleted, and what was copied is deleted again if that fails; a key that was changed between is
    left where it is.

    Args:
        halt: called for each key and each piece of data; what it raises ends it.
        keeps: whether the source stays.

    Raises:
        Fault: DuplicateNode: somebody has made one of the nodes; InvalidURI: a name becomes too
            long; NodeBusy: a key was changed meanwhile.
        AuthorizationError: the caller may not.
    """
    site = tree.site
    pairs = _Pairs(tree, source, destination)
    if site.info.get("transactions"):
        with site.writer.transaction("copy" if keeps else "move"):
            for record, key in pairs:
                halt()
                revision, _ = _copy(site, record.key, key, halt, moves=not keeps)
                if not keeps:
                    site.writer.delete(record.key, if_match=revision)
        return
    _copy_all(site, pairs, halt, moves=not keeps)
    if not keeps:
        _delete_copied(site, pairs)


class _Pairs:
    """The keys of a tree, each with its key in another place; read anew for each pass."""

    def __init__(self, tree: Tree, source: Node, destination: str) -> None:
        self._tree = tree
        self._source = source
        self._destination = destination

    def __iter__(self) -> Iterator[tuple[Record, str]]:
        begin = len(self._source.path)
        for record in _members(self._tree, self._source):
            try:
                yield record, check_key(f"{self._destination}{record.key[begin:]}")
            except InvalidKeyError as error:
                raise invalid_uri(error.message) from None


def _members(tree: Tree, node: Node) -> Iterator[Record]:
    """The keys of a node and of all in it; no query is open while one is changed."""
    if node.kind != CONTAINER:
        if node.record is not None:
            yield node.record
        return
    for batch in tree.batches(below(node.path)):
        yield from batch


def _each(
    tree: Tree, node: Node, call: Callable[[Record], None], halt: Callable[[], object]
) -> Counts:
    done = failed = 0
    for record in _members(tree, node):
        halt()
        try:
            call(record)
        except (StoreError, Fault):
            failed += 1
        else:
            done += 1
    return Counts(done, failed)


def _copy_all(site: Site, pairs: _Pairs, halt: Callable[[], object], *, moves: bool) -> None:
    with tempfile.SpooledTemporaryFile(_SPOOL) as made:
        try:
            for record, key in pairs:
                halt()
                _, revision = _copy(site, record.key, key, halt, moves=moves)
                made.write(json.dumps([key, revision]).encode() + b"\n")
        except BaseException:
            # What was made, and not what the source holds by now: others may have added to it, and
            # to the copy, too.
            made.seek(0)
            for line in made:
                key, revision = json.loads(line)
                with contextlib.suppress(StoreError):
                    is_held = site.info.get("conditional")
                    site.writer.delete(key, if_match=revision if is_held else None)
            raise


def _delete_copied(site: Site, pairs: _Pairs) -> None:
    for record, key in pairs:
        copy = site.find(key)
        if copy is None or not _is_same(record, copy):
            raise Fault("NodeBusy", 409, f"Somebody has changed {record.key!r:.200} meanwhile.")
        site.writer.delete(record.key, if_match=record.revision)


def _is_same(one: Record, other: Record) -> bool:
    return (one.size, one.digest, one.metadata) == (other.size, other.digest, other.metadata)


def _copy(
    site: Site, key: str, to: str, halt: Callable[[], object], *, moves: bool
) -> tuple[str | None, str | None]:
    """Copy one key, and return the revision that was copied, and that of the copy."""
    with closing(site.store.get(key)) as value:
        source = Source(value)
        source.report = lambda _: halt()
        change = Change(
            data=source,
            metadata=value.metadata,
            permissions=_permissions_of(value, moves=moves),
            mimetype=value.mimetype,
            condition=Condition(create_only=bool(site.info.get("conditional"))),
        )
        try:
            written = site.writer.write(to, change)
        except ConflictError:
            raise duplicate(to) from None
        return value.revision, written.revision


def _permissions_of(value: Value, *, moves: bool) -> Permissions | None:
    try:
        return value.permissions
    except UnsupportedOperationError:
        return None
    except AuthorizationError:
        if moves:  # the new key would be the caller's, and the owner locked out
            raise denied(f"Only an owner can move {value.key!r:.200}.") from None
        return None
