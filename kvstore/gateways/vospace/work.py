"""What each kind of job does once it is begun."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from kvstore.gateways.vospace.asking import Asking
from kvstore.gateways.vospace.checksums import FOR_ONE
from kvstore.gateways.vospace.faults import (
    denied,
    duplicate,
    invalid_argument,
    invalid_uri,
    not_found,
)
from kvstore.gateways.vospace.jobs import Job
from kvstore.gateways.vospace.names import AUTO, NULL, below, is_within, name_of
from kvstore.gateways.vospace.node_documents import read_node
from kvstore.gateways.vospace.node_requests import set_properties
from kvstore.gateways.vospace.running import Outcome, Work
from kvstore.gateways.vospace.transfers import Transfer, read_transfer
from kvstore.gateways.vospace.tree import CONTAINER, Node, Tree
from kvstore.gateways.vospace.trees import (
    Counts,
    change_each,
    delete_each,
    delete_tree,
    transfer_tree,
)
from kvstore.server.access.callers import Caller


def work_of(asking: Asking, job: Job) -> Work | None:
    """Return what a job does; None: it waits for the client to send or fetch bytes."""
    tree = Tree(asking.site, asking.space)
    if job.kind == "async-delete":
        return _Delete(tree, job.request)
    if job.kind == "async-setprops":
        return _SetProperties(tree, job.request, asking)
    transfer = read_transfer(job.request.encode())
    return _Transfer(tree, transfer) if transfer.is_internal else None


def while_allowed(work: Work, caller: Caller | None) -> Work:
    """Return the same work, which ends once the credentials that it was begun with hold no more."""
    if caller is None:
        return work

    def doing(halt: Callable[[], None]) -> Outcome:
        def look() -> None:
            halt()
            caller.demand_still()

        return work(look)

    return doing


def endpoint_query(job: Job) -> str:
    """Return what stands behind the URL of bytes, so that the job knows of their transfer."""
    return f"?job={job.id}"


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Moves or copies a node."""

    tree: Tree
    transfer: Transfer

    def __call__(self, halt: Callable[[], None]) -> Outcome:
        tree = self.tree
        source_path = tree.space.path(self.transfer.target)
        source = tree.find(source_path)
        if source is None:
            tree.check_no_link(source_path)
            raise not_found(source_path)
        keeps = self.transfer.keeps
        if keeps is None:
            raise invalid_argument("keepBytes says whether it is a copy (true) or a move (false).")
        if not source_path:
            raise denied("The root of the space stays.")
        wanted = tree.space.path(self.transfer.direction)
        if name_of(wanted) == NULL:
            if not keeps:
                delete_tree(tree, source)
            return Outcome()
        destination = self._destination(source, wanted)
        transfer_tree(tree, source, destination, halt, keeps=keeps)
        return Outcome(results=[("destination", tree.space.uri(destination))])

    def _destination(self, source: Node, wanted: str) -> str:
        tree = self.tree
        if name_of(wanted) == AUTO:
            wanted = wanted.removesuffix(AUTO) + secrets.token_hex(8)
        if is_within(wanted, source.path):
            raise invalid_uri(f"A node cannot be moved or copied below itself: {wanted!r:.200}.")
        there = tree.find(wanted)
        if there is not None and there.kind == CONTAINER:
            wanted = f"{below(wanted)}{name_of(source.path)}"
            there = tree.find(wanted)
        if there is not None:
            raise duplicate(wanted)
        self._check_parent(wanted)
        return wanted

    def _check_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        node = self.tree.find(parent)
        if node is None or node.kind != CONTAINER:
            self.tree.check_no_link(parent)
            raise not_found(parent)


@dataclass(frozen=True, slots=True)
class _Delete:
    """Deletes a tree, as far as the caller may."""

    tree: Tree
    target: str

    def __call__(self, halt: Callable[[], None]) -> Outcome:
        path = self.tree.space.path(self.target)
        node = self.tree.find(path)
        if node is None:
            raise not_found(path)
        return _counted(delete_each(self.tree, node, halt))


@dataclass(frozen=True, slots=True)
class _SetProperties:
    """Sets the same properties of all nodes of a tree, as far as the caller may."""

    tree: Tree
    document: str
    asking: Asking

    def __call__(self, halt: Callable[[], None]) -> Outcome:
        given = read_node(self.document.encode())
        path = self.tree.space.path(given.uri)
        node = self.tree.find(path)
        if node is None:
            raise not_found(path)
        sums = self.asking.sums.budget(FOR_ONE)

        def change(path: str) -> None:
            set_properties(self.tree, path, given, lambda node: sums.of(self.tree.site, node))

        return _counted(change_each(self.tree, node, change, halt))


def _counted(counts: Counts) -> Outcome:
    """How a job has ended that goes on behind failures.

    A count of no failures is left out: clients take it for one.
    """
    if counts.failed and not counts.done:
        return Outcome("ERROR", fault="PermissionDenied")
    results = [("successcount", f"final:{counts.done}")]
    if counts.failed:
        results.append(("errorcount", f"final:{counts.failed}"))
    return Outcome("ABORTED" if counts.failed else "COMPLETED", results)
