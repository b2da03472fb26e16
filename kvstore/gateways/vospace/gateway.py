"""Which URL of the gateway is answered by which handler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self, TypeAlias

from kvstore.errors import InvalidRequestError
from kvstore.gateways.vospace.asking import Asking
from kvstore.gateways.vospace.checksums import Checksums
from kvstore.gateways.vospace.faults import fault_reply
from kvstore.gateways.vospace.files import get_file, put_file
from kvstore.gateways.vospace.job_requests import (
    DELETE,
    SETPROPS,
    TRANSFERS,
    get_jobs,
    get_synctrans,
    job_request,
    post_job,
    post_synctrans,
)
from kvstore.gateways.vospace.jobs import Jobs
from kvstore.gateways.vospace.names import Space
from kvstore.gateways.vospace.node_requests import delete_node, get_node, post_node, put_node
from kvstore.gateways.vospace.running import Runner
from kvstore.gateways.vospace.service import DOCUMENTS
from kvstore.server.access.callers import Scope
from kvstore.server.answers import NotAllowedError, Refusal, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.gateways import Gateway
from kvstore.server.site import Site

if TYPE_CHECKING:
    from kvstore.server.running.settings import Settings

#: What the space is called where nobody says.
IDENTIFIER = "ivo://kvstore/vos"

_Plain: TypeAlias = Callable[[Asking], Awaitable[Reply]]
_WithPath: TypeAlias = Callable[[Asking, str], Awaitable[Reply]]

_NODES: dict[str, _WithPath] = {
    "GET": get_node,
    "HEAD": get_node,
    "PUT": put_node,
    "POST": post_node,
    "DELETE": delete_node,
}
_FILES: dict[str, _WithPath] = {"GET": get_file, "HEAD": get_file, "PUT": put_file}
_SYNC: dict[str, _Plain] = {"GET": get_synctrans, "POST": post_synctrans}
_JOBS = (TRANSFERS, DELETE, SETPROPS)
_HOST = re.compile(r"[A-Za-z0-9._\-]+(?::\d+)?|\[[0-9A-Fa-f:.]+\](?::\d+)?")


class VospaceGateway(Gateway):
    """VOSpace 2.1, for its clients: ``vcp`` and its kin, and the Python package ``vos``.

    Args:
        identifier: what the space is called in registries; its nodes begin with ``vos://`` and the
            same with a tilde for each slash.
        jobs: the jobs of the server, which several processes share; None: those of this one.

    Raises:
        InvalidRequestError: the identifier is none.
    """

    name = "vospace"
    prefix = "/vos"

    def __init__(self, identifier: str = IDENTIFIER, jobs: Jobs | None = None) -> None:
        self._space = Space(identifier)
        self._sums = Checksums()
        self._jobs = Jobs() if jobs is None else jobs
        self._runner = Runner()

    @classmethod
    def for_settings(cls, settings: Settings, options: Mapping[str, str]) -> Self:
        """Return that of a server: its jobs are beside the uploads, and ``id`` is its identifier.

        Raises:
            InvalidRequestError: another option, the identifier is none, or XML cannot be read here.
        """
        if find_spec("defusedxml") is None:  # found out when it starts, not by its first client
            raise InvalidRequestError("The gateway vospace needs: pip install 'kvstore[gateways]'.")
        for option in options.keys() - {"id"}:
            raise InvalidRequestError(f"The gateway vospace has no option {option!a:.100}.")
        identifier = options.get("id", IDENTIFIER)
        uploads = settings.uploads
        folder = None if uploads is None else uploads.with_name(f"{uploads.name}-vospace")
        return cls(identifier, Jobs(folder))

    def public(self, exchange: Exchange, path: str) -> Reply | None:
        """Return what the service says of itself."""
        document = DOCUMENTS.get(path.strip("/"))
        if document is None or exchange.method not in ("GET", "HEAD"):
            return None
        return document(self._base(exchange))

    def scope(self, exchange: Exchange, path: str) -> Scope | None:
        """Ask for a place to read from is reading, though it is a POST."""
        is_asking = path.startswith(("/synctrans", "/transfers"))
        return "read" if is_asking else None

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        """Answer a request.

        Raises:
            Fault: why not, by its name.
        """
        base = self._base(exchange)
        asking = Asking(site, exchange, base, self._space, self._sums, self._jobs, self._runner)
        part, _, rest = path.removeprefix("/").partition("/")
        method = exchange.method
        if part == "nodes":
            return await _chosen(_NODES, method)(asking, rest)
        if part == "files":
            return await _chosen(_FILES, method)(asking, rest)
        if rest.strip("/") == "":
            if part in DOCUMENTS:
                raise NotAllowedError(method, "GET, HEAD")
            if part == "synctrans":
                return await _chosen(_SYNC, method)(asking)
            if part in _JOBS:
                return await _chosen({"GET": get_jobs, "POST": post_job}, method)(asking, part)
        elif part in _JOBS:
            reply = await job_request(asking, part, rest.strip("/"))
            if reply is not None:
                return reply
        raise Refusal(404, f"There is nothing at {path!r:.200}.")

    def _base(self, exchange: Exchange) -> str:
        """The URL of the gateway, as its client knows it."""
        host = exchange.single(b"host") or ""
        if not _HOST.fullmatch(host):
            raise InvalidRequestError(f"Host names no server: {host!r:.100}.")
        root: str = exchange.scope.get("root_path", "")
        return f"{exchange.scope['scheme']}://{host}{root}{self.prefix}"

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        """Return the fault that stands for an error."""
        return fault_reply(error, reply)


def _chosen(
    handlers: dict[str, Callable[..., Awaitable[Reply]]], method: str
) -> Callable[..., Awaitable[Reply]]:
    handler = handlers.get(method)
    if handler is None:
        raise NotAllowedError(method, ", ".join(handlers))
    return handler
