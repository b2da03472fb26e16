"""The keys in a space, in their order: container by container, page by page, in bounded memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from urllib.parse import quote

from kvstore.errors import KeyNotFoundError, TransportError
from kvstore.query import Query, run
from kvstore.transport.bodies import Answer, BrokenOffError
from kvstore.transport.vospace.names import may_be_key, name_in
from kvstore.transport.vospace.nodes import CONTAINER, Node, read_children
from kvstore.transport.vospace.properties import record_of, told_by
from kvstore.transport.vospace.talk import Asked, FaultError, Talk
from kvstore.values import Record

#: Nodes that are asked for at a time.
_PAGE = 1000
#: Nodes of one container that are taken.
_MOST = 10_000_000
_PIECE = 1 << 16


class Lister:
    """Lists containers. Thread-safe.

    Args:
        read: returns the record of a key that is listed without its properties.
    """

    def __init__(self, talk: Talk, read: Callable[[str], Record]) -> None:
        self._talk = talk
        self._read = read
        #: Most nodes that a page has had: as many come where there are as many.
        self._proven = 0

    def find(self, query: Query, *, with_metadata: bool) -> Iterator[Record]:
        """Yield what *query* finds.

        Args:
            with_metadata: whether the caller needs the metadata.
        """
        needed = with_metadata or bool(query.match) or query.where is not None
        needed = needed or query.order_by is not None

        def records() -> Iterator[Record]:
            prefix = query.key_prefix()
            after = query.after if query.order_by is None else None
            folder = prefix[: prefix.rfind("/") + 1]
            with closing(_Walk(self, prefix, after, needed=needed).within(folder)) as found:
                for key, node in found:
                    record = self._record(key, node, needed=needed)
                    if record is not None:
                        yield record

        return run(query, records())

    def _record(self, key: str, node: Node, *, needed: bool) -> Record | None:
        if not needed:
            return record_of(node, key, {})
        if node.properties:
            return record_of(node, key, told_by(node, key).metadata)
        try:
            return self._read(key)  # the service lists no properties
        except KeyNotFoundError:
            return None  # deleted since the service listed it

    def gather(self, folder: str, pool: Pool, *, with_properties: bool) -> None:
        """Put the nodes in a container into *pool*; none if there is no such container."""
        last: str | None = None
        while True:
            count, new, last_now = self._page(folder, pool, last, with_properties=with_properties)
            # A service may give fewer than were asked for; only one that gave more once will not.
            is_end = not new or (count < _PAGE and count < self._proven)
            self._proven = max(self._proven, min(count, _PAGE))
            if is_end or count > _PAGE:
                return
            last = last_now

    def _page(
        self, folder: str, pool: Pool, first: str | None, *, with_properties: bool
    ) -> tuple[int, int, str | None]:
        """Add a page to *pool*; return how many nodes it had, how many were new, and the last."""
        talk = self._talk
        path = talk.path(folder.removesuffix("/"))
        url = f"{talk.node_url(path)}?limit={_PAGE}"
        if not with_properties:
            url += "&detail=min"
        if first is not None:
            url += f"&uri={quote(first, safe='')}"
        tries = talk.exchange.tries(is_small=False)
        while True:
            try:
                answer = talk.try_to("GET", url, Asked(streaming=True, tries=tries))
            except FaultError as fault:
                if isinstance(fault.error, KeyNotFoundError):
                    return 0, 0, None
                raise fault.error from None
            try:
                return self._added(answer, path, pool)
            except BrokenOffError as error:
                tries.wait(error)  # what came of the page is in the pool already, and stays
            finally:
                answer.close()

    @staticmethod
    def _added(answer: Answer, path: str, pool: Pool) -> tuple[int, int, str | None]:
        count, new, last = 0, 0, None
        for node in read_children(_pieces(answer), path):
            if node is None:
                pool.clear()
                return 0, 0, None
            count += 1
            last = node.uri
            new += pool.add(node)
        return count, new, last


class Pool:
    """The nodes in one container, in the order of their keys: in a temporary file if they are many.

    What SQLite keeps in memory of it has a bound; what it does not is in no folder.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode=OFF")
        self._base.execute("CREATE TABLE node (name BLOB PRIMARY KEY, kind TEXT, told TEXT)")
        self._base.execute("BEGIN")
        self._count = 0

    def add(self, node: Node) -> bool:
        """Add a node; False if it is there."""
        name = name_in(node.uri)
        # A container stands where the keys in it do, all of which begin with its name and a slash.
        place = f"{name}/" if node.kind == CONTAINER else name
        told = [node.uri, dict(node.properties), sorted(node.fixed)]
        done = self._base.execute(
            "INSERT OR IGNORE INTO node VALUES (?, ?, ?)",
            (place.encode(), node.kind, json.dumps(told)),
        )
        self._count += done.rowcount
        if self._count > _MOST:
            raise TransportError(f"The service lists over {_MOST} nodes in one container.")
        return done.rowcount > 0

    def clear(self) -> None:
        """Forget all of them."""
        self._base.execute("DELETE FROM node")

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        for place, kind, told in self._base.execute("SELECT * FROM node ORDER BY name"):
            uri, properties, fixed = json.loads(told)
            yield place.decode(), Node(uri, kind, properties, frozenset(fixed))

    def close(self) -> None:
        """Give back its memory and its file."""
        self._base.close()


class _Walk:
    """One walk through a space, for one query."""

    def __init__(
        self,
        lister: Lister,
        prefix: str,
        after: str | None,
        *,
        needed: bool,
    ) -> None:
        self._lister = lister
        self._prefix = prefix
        self._after = after
        self._needed = needed

    def within(self, folder: str) -> Generator[tuple[str, Node], None, None]:
        """Yield the keys in a container and in those within, and their nodes."""
        with closing(Pool()) as pool:
            self._lister.gather(folder, pool, with_properties=self._needed)
            for place, node in pool:
                key = folder + place
                if "/" in place[:-1] or not may_be_key(key.removesuffix("/")):
                    continue  # a name that no key has, or that would be another one
                if node.kind == CONTAINER:
                    if self._may_hold(key):
                        yield from self.within(key)
                elif node.is_data and key.startswith(self._prefix) and not self._is_before(key):
                    yield key, node

    def _may_hold(self, folder: str) -> bool:
        is_within = folder.startswith(self._prefix) or self._prefix.startswith(folder)
        after = self._after
        return is_within and (after is None or folder > after or after.startswith(folder))

    def _is_before(self, key: str) -> bool:
        return self._after is not None and key <= self._after


def _pieces(answer: Answer) -> Iterator[bytes]:
    while piece := answer.read1(_PIECE):
        yield piece
