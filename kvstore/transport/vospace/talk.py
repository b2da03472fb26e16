"""Requests to a service: where its parts are, its faults as errors, its redirects within reason."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from kvstore.errors import (
    InvalidRequestError,
    KeyNotFoundError,
    StoreError,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.profiles.profile import Profile
from kvstore.transport.addresses import joined, origin_of, shown_url
from kvstore.transport.bodies import MAX_DOCUMENT, Answer
from kvstore.transport.exchange import Exchange, Request
from kvstore.transport.policy import Policy
from kvstore.transport.sender import Sender
from kvstore.transport.tries import Tries
from kvstore.transport.upload import Upload
from kvstore.transport.vospace.faults import STATUSES, refused
from kvstore.transport.vospace.names import path_in, path_of, quoted
from kvstore.transport.vospace.nodes import LINK, Node, read_node
from kvstore.transport.vospace.service import Service
from kvstore.writes import missing

#: Longest document of one node: metadata of a megabyte, every character of it an entity.
_MAX_NODE = 8 << 20
XML = "text/xml; charset=utf-8"
_SEE_OTHER = frozenset({301, 302, 303})


@dataclass(frozen=True, slots=True)
class Asked:
    """How a request is made beyond its method and URL."""

    key: str | None = None
    body: bytes | Upload | None = None
    headers: Mapping[str, str] | None = None
    #: Statuses that are answers.
    expect: Collection[int] = (200,)
    #: Whether data travels.
    streaming: bool = False
    #: Whether twice is as once although the method does not say so.
    repeatable: bool = False
    tries: Tries | None = None


class FaultError(Exception):
    """A fault by its name in small letters, with the error that it is for who knows no better."""

    def __init__(self, name: str, error: StoreError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


class Talk:
    """Sends requests to one service. Thread-safe; it learns once where the service has its parts.

    Args:
        sender: how to send, with the credentials.
        base: URL of the service; its capabilities are at ``{base}/capabilities``.
        verify_digests: whether data is checked against the MD5 that the service tells.
    """

    def __init__(
        self, sender: Sender, policy: Policy, profile: Profile, base: str, *, verify_digests: bool
    ) -> None:
        self.exchange = Exchange(sender, policy)
        self.profile = profile
        self.verify_digests = verify_digests
        self._base = base
        self._policy = policy
        options = profile.vospace
        self._root = str(options.get("root", "")).strip("/")
        self._space: str | None = options.get("authority")
        self._goes_anywhere = options.get("endpoints") == "anywhere"
        self._guard = threading.Lock()
        self._known: Service | None = None
        self._elsewhere: Sender | None = None

    def close(self) -> None:
        """Close the connections to other servers."""
        with self._guard:
            sender, self._elsewhere = self._elsewhere, None
        if sender is not None:
            sender.close()

    # -- where things are ------------------------------------------------------------------

    def service(self) -> Service:
        """Return where the service has its parts.

        Raises:
            TransportError: there is no such service.
        """
        if self._known is None:
            url = f"{self._base}/capabilities"
            try:
                answer = self.ask("GET", url, Asked(headers={"Accept": "text/xml"}))
            except (KeyNotFoundError, InvalidRequestError) as error:
                told = f"it says nothing at {shown_url(url):.200} (HTTP {error.status})"
                raise TransportError(f"That is no VOSpace: {told}.", status=error.status) from None
            self._known = Service.of_document(answer.read(MAX_DOCUMENT), url)
        return self._known

    def path(self, key: str) -> str:
        """Return the path of the node that a key is; the empty one is the store itself."""
        return path_of(self._root, key) if key else self._root

    def uri(self, path: str) -> str:
        """Return the URI of the node at *path*."""
        if self._space is None:
            # What it calls its root begins the names of all its nodes.
            url = f"{self.service().nodes}?detail=min&limit=0"
            root = read_node(self.ask("GET", url, Asked()).read(_MAX_NODE))
            authority = root.uri.partition("://")[2].partition("/")[0]
            path_in(root.uri)
            self._space = f"vos://{authority}"
        return f"{self._space}/{quoted(path)}"

    def node_url(self, path: str) -> str:
        """Return the URL of a node."""
        nodes = self.service().nodes
        return f"{nodes}/{quoted(path)}" if path else nodes

    # -- nodes -----------------------------------------------------------------------------

    def find(self, key: str) -> Node | None:
        """Return the node that a key would be, of whatever kind it is; None if there is none.

        One that is reached through a link is a link, too: it is another node than it says.
        """
        path = self.path(key)
        url = f"{self.node_url(path)}?limit=0"
        try:
            node = read_node(self.ask("GET", url, Asked(key)).read(_MAX_NODE))
        except KeyNotFoundError:
            return None
        return node if path_in(node.uri) == path else Node(node.uri, LINK)

    def data_node(self, key: str) -> Node:
        """Return the node that a key is.

        Raises:
            KeyNotFoundError: there is none that holds bytes.
        """
        node = self.find(key)
        if node is None or not node.is_data:
            raise missing(key)
        return node

    # -- requests --------------------------------------------------------------------------

    def ask(self, method: str, url: str, asked: Asked) -> Answer:
        """Send a request to the service, and return the answer.

        Raises:
            StoreError: what the fault means.
        """
        try:
            return self.try_to(method, url, asked)
        except FaultError as fault:
            raise fault.error from None

    def try_to(self, method: str, url: str, asked: Asked) -> Answer:
        """As :meth:`ask`, for who knows what a fault means here.

        Raises:
            FaultError: by its name.
            StoreError: no answer came.
        """
        return self._judged(self.exchange, method, url, asked)

    def move_data(self, method: str, url: str, asked: Asked) -> Answer:
        """Send bytes to where they belong, or ask for them; redirects are followed.

        Raises:
            FaultError, StoreError: as for :meth:`try_to`.
            TransportError: that is at another origin, where the credentials do not belong.
        """
        for _ in range(self._policy.redirects + 1):
            exchange = self._exchange_for(url)
            expect = {*asked.expect, *(_SEE_OTHER if method == "GET" else ())}
            answer = self._judged(exchange, method, url, replace(asked, expect=expect))
            if answer.status not in _SEE_OTHER:
                return answer
            url = self.target_of(answer)
        raise TransportError(f"The service redirects {shown_url(url)} without end.", key=asked.key)

    def target_of(self, answer: Answer) -> str:
        """Return the URL that an answer sends to, and be done with it.

        Raises:
            TransportError: it names none.
        """
        answer.finish()
        location = joined(answer.url, answer.headers.get("Location", ""))
        if not answer.headers.get("Location") or location is None:
            raise answer.refused("sends to no URL")
        return location

    def same_origin(self, url: str) -> bool:
        """Tell whether a URL is at the server that the credentials are for."""
        try:
            return origin_of(url) == origin_of(self._base)
        except ValueError:
            return False

    def may_go(self, url: str) -> bool:
        """Tell whether bytes may be moved from or to a URL."""
        if self.same_origin(url):
            return True
        scheme = url.partition("://")[0].lower()
        is_web = scheme == "https" or (scheme == "http" and self._base.startswith("http:"))
        return self._goes_anywhere and is_web and "@" not in url.split("/", 3)[2]

    def unsupported(self, what: str, key: str | None = None) -> UnsupportedOperationError:
        """Return the error for what the protocol has no means for."""
        return UnsupportedOperationError(f"A VOSpace has no means for {what}.", key=key)

    def _exchange_for(self, url: str) -> Exchange:
        if self.same_origin(url):
            return self.exchange
        if not self.may_go(url):
            told = f"The service has the data at {shown_url(url):.200}, another origin"
            how = 'a profile with "vospace": {"endpoints": "anywhere"} goes there, as nobody'
            raise TransportError(f"{told}; {how}.")
        with self._guard:
            if self._elsewhere is None:
                self._elsewhere = Sender(None, url, self._policy)
            return Exchange(self._elsewhere, self._policy)

    def _judged(self, exchange: Exchange, method: str, url: str, asked: Asked) -> Answer:
        # The exchange knows whether what is missing was deleted by an earlier try.
        faults = STATUSES - {404} if method == "DELETE" else STATUSES
        request = Request(
            method,
            url,
            key=asked.key,
            headers=dict(asked.headers or {}),
            body=asked.body,
            expect=frozenset(asked.expect) | faults,
            streaming=asked.streaming,
            repeatable=asked.repeatable,
        )
        answer = exchange(request, asked.tries)
        if answer.status in asked.expect:
            return answer
        name, error = refused(answer, asked.key, str(request))
        raise FaultError(name, error)


def read_text(answer: Answer, most: int) -> str:
    """Return a small text, whatever it is spelled in."""
    return answer.read(most).decode("utf-8", "replace").strip()
