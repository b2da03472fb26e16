"""The server as an ASGI application: which URL is answered by which handler."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvstore.keys import check_key
from kvstore.profiles.service import PARTS, URL_FORMAT, URL_FORMAT_NO_PART, VALUE_PART
from kvstore.profiles.templates import Template
from kvstore.profiles.wire import SERVICE_PATH
from kvstore.server.answers import NotAllowedError, Refusal, Reply, problem_reply
from kvstore.server.exchange import Exchange
from kvstore.server.feed import Feed
from kvstore.server.handlers_batch import post_batch
from kvstore.server.handlers_changes import get_changes
from kvstore.server.handlers_data import delete_key, get_data, put_data
from kvstore.server.handlers_documents import (
    get_metadata,
    get_permissions,
    post_metadata,
    post_permissions,
    put_metadata,
    put_permissions,
)
from kvstore.server.handlers_query import get_query
from kvstore.server.handlers_service import capabilities, get_service
from kvstore.server.handlers_uploads import (
    begin_tus,
    delete_upload,
    head_upload,
    options_uploads,
    patch_upload,
    post_upload,
)
from kvstore.server.handlers_value import get_value, put_value
from kvstore.server.holding import Holds
from kvstore.server.hosts import LOCAL, Hosts
from kvstore.server.limits import Limits
from kvstore.server.partials import Partials
from kvstore.server.paths import Paths
from kvstore.server.site import Site
from kvstore.server.workers import Disconnected, Workers
from kvstore.store import ReadOnlyStore

#: The handler of a URL that ends in a key and a part, or in the name of an upload.
KeyHandler: TypeAlias = Callable[[Site, Exchange, str], Awaitable[Reply]]
Methods: TypeAlias = Mapping[str, KeyHandler]
PathHandler: TypeAlias = Callable[[Site, Exchange], Awaitable[Reply | None]]
PathMethods: TypeAlias = Mapping[str, PathHandler]
Handler = TypeVar("Handler")

_UPLOAD: Methods = {"HEAD": head_upload, "PATCH": patch_upload, "DELETE": delete_upload}

_log = logging.getLogger("kvstore.server")

_PART_URL = Template(URL_FORMAT)
_KEY_URL = Template(URL_FORMAT_NO_PART)


class KeyValueApp(Starlette):
    """The ASGI application over one store; made by :func:`create_app`.

    What is not a URL of the protocol goes to the routes of Starlette: ``app.mount`` and its kin
    put other pages beside the store.
    """

    def __init__(self, site: Site, hosts: Hosts) -> None:
        super().__init__(exception_handlers={HTTPException: _unknown}, lifespan=_closing(site))
        self.router.redirect_slashes = False
        self.site = site
        self._hosts = hosts
        self._base = site.paths.base
        self._parts = _parts_of(site)
        self._paths = _paths_of(site)
        self._takes_uploads = "uploads" in capabilities(site.info)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a failure before the answer has begun becomes a problem document."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange: Exchange | None = None
        try:
            exchange = Exchange(scope, receive, send, self.site.limits)
            reply = await self._answer(exchange, scope, receive, send)
            if reply is not None:
                await exchange.reply(reply, self.site.workers)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer
            await self._fail(exchange or _bare(scope, receive, send, self.site.limits), error)

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> Reply | None:
        self._hosts.check(exchange)
        path = _raw_path(scope)
        if path.startswith(f"{self._base}/"):
            return await self._answer_key(exchange, path)
        folder, _, name = path.rpartition("/")
        if self._takes_uploads and self.site.paths.uploads in (path, folder):
            begin_tus(exchange)
        if self._takes_uploads and self.site.paths.uploads == folder:
            one = _chosen(exchange, _UPLOAD)
            return _options(_UPLOAD) if one is None else await one(self.site, exchange, name)
        methods = self._paths.get(path)
        if methods is None:
            await super().__call__(scope, receive, exchange.tracked)
            return None
        handler = _chosen(exchange, methods)
        if handler is None:
            return _options(methods)
        reply = await handler(self.site, exchange)
        if reply is None:
            await exchange.end()
        return reply

    async def _answer_key(self, exchange: Exchange, path: str) -> Reply:
        if exchange.method == "DELETE" and self.site.is_writable:
            key = (_KEY_URL.match(path, base=self._base) or {}).get("key", "")
            return await delete_key(self.site, exchange, check_key(key))
        found = _PART_URL.match(path, base=self._base)
        methods = self._parts.get(found["part"]) if found is not None else None
        if methods is None or found is None:
            return self._answer_whole_key(exchange, is_part=found is not None)
        handler = _chosen(exchange, methods)
        if handler is None:
            return _options(methods)
        return await handler(self.site, exchange, check_key(found["key"]))

    def _answer_whole_key(self, exchange: Exchange, *, is_part: bool) -> Reply:
        """``{base}/{key}``: a key as a whole can only be deleted."""
        methods = ("DELETE",) if self.site.is_writable else ()
        if exchange.method == "OPTIONS":
            return _options(methods)
        if is_part or not methods:
            known = ", ".join(self._parts)
            raise Refusal(404, f"A key has no such part; there are {known}.")
        raise NotAllowedError(exchange.method, _allow(methods))

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        reply = problem_reply(error, exchange.members)
        is_ours = reply.status >= 500 and not isinstance(error, NotImplementedError)
        if is_ours or exchange.started:
            _log.error("%s %r failed", exchange.method, exchange.scope["path"], exc_info=error)
        if exchange.started:
            # Ending it would tell the client that it has all. This makes the server hang up.
            raise ConnectionAbortedError("The answer could not be brought to its end.") from None
        reply.fields += exchange.fields
        with contextlib.suppress(Disconnected):
            await exchange.reply(reply, self.site.workers)


def create_app(
    store: ReadOnlyStore,
    *,
    limits: Limits | None = None,
    hosts: Iterable[str] | None = None,
    base: str = "/keys",
    query: str = "/query",
    changes: str = "/changes",
    batch: str = "/batch",
    uploads: str = "/uploads",
    uploads_folder: Path | None = None,
) -> KeyValueApp:
    """Return the ASGI application that serves *store*, which is connected by then.

    There is no access control: whoever reaches the server does what the store's user may do.

    Args:
        limits: bounds on requests; the default ones if None. Those on headers, connections and
            keep-alive are held by :func:`kvstore.server.serve`, not by the application.
        hosts: names that the server answers to, with any port or as ``name:port``; ``"*"`` is
            every name. None is ``localhost``, ``127.0.0.1`` and ``[::1]``.
        base: path above the keys.
        query: path of queries.
        changes: path of the change feed.
        batch: path of batches of writes.
        uploads: path above the uploads that can be resumed.
        uploads_folder: where these are kept while they are not complete, so that they can be
            resumed when the server was begun anew. None: in a temporary folder.

    Raises:
        InvalidRequestError: a path or a host name that is none.
    """
    paths = Paths(base=base, query=query, changes=changes, batch=batch, uploads=uploads)
    limits = Limits() if limits is None else limits
    workers = Workers(limits)
    partials = Partials(uploads_folder, limits)
    site = Site(
        store,
        limits,
        workers,
        paths,
        Feed(store, workers),
        partials,
        Holds(partials),
        store.info(),
    )
    return KeyValueApp(site, Hosts(LOCAL if hosts is None else hosts))


def _paths_of(site: Site) -> dict[str, PathMethods]:
    """Which methods each path has, as far as the store has what they are for."""
    names = capabilities(site.info)
    paths: dict[str, PathMethods] = {
        site.paths.query: {"GET": get_query, "HEAD": get_query},
        SERVICE_PATH: {"GET": get_service, "HEAD": get_service},
    }
    if "changes" in names:
        paths[site.paths.changes] = {"GET": get_changes, "HEAD": get_changes}
    if "batch" in names:
        paths[site.paths.batch] = {"POST": post_batch}
    if "uploads" in names:
        paths[site.paths.uploads] = {"POST": post_upload, "OPTIONS": options_uploads}
    return paths


def _parts_of(site: Site) -> dict[str, Methods]:
    """Which methods each part has, as far as the store can be written and has permissions."""
    parts: dict[str, Methods] = {
        PARTS["data"]: {"GET": get_data, "PUT": put_data},
        PARTS["metadata"]: {"GET": get_metadata, "PUT": put_metadata, "POST": post_metadata},
    }
    if site.is_authorizing:
        parts[PARTS["permissions"]] = {
            "GET": get_permissions,
            "PUT": put_permissions,
            "POST": post_permissions,
        }
    if "value" in capabilities(site.info):
        parts[VALUE_PART] = {"GET": get_value, "PUT": put_value}
    return {part: _methods(site, methods) for part, methods in parts.items()}


def _methods(site: Site, methods: Methods) -> Methods:
    served = {"GET": methods["GET"], "HEAD": methods["GET"]}
    return {**served, **methods} if site.is_writable else served


def _chosen(exchange: Exchange, methods: Mapping[str, Handler]) -> Handler | None:
    """The handler of a request, None for OPTIONS where that has none of its own."""
    handler = methods.get(exchange.method)
    if handler is None and exchange.method != "OPTIONS":
        raise NotAllowedError(exchange.method, _allow(methods))
    return handler


def _allow(methods: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys([*methods, "OPTIONS"]))


def _options(methods: Iterable[str]) -> Reply:
    return Reply(204, [(b"allow", _allow(methods).encode())])


def _raw_path(scope: Scope) -> str:
    # Decoded paths cannot tell `%2F` in a key from the `/` before the part.
    raw: bytes = scope["raw_path"]
    root: str = scope.get("root_path", "")
    return raw.decode("latin-1").removeprefix(root)


def _closing(
    site: Site,
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        site.feed.close()
        site.partials.close()
        site.workers.close()

    return lifespan


def _bare(scope: Scope, receive: Receive, send: Send, limits: Limits) -> Exchange:
    """An exchange to refuse a request whose header cannot even be read."""
    headers = [field for field in scope["headers"] if field[0] != b"content-length"]
    exchange = Exchange({**scope, "headers": headers}, receive, send, limits)
    exchange.body.complete = False
    return exchange


async def _unknown(_request: Request, error: Exception) -> Response:
    """What the routes of Starlette refuse, in the words of this server."""
    if not isinstance(error, HTTPException):
        raise error
    detail = "There is nothing at this URL." if error.status_code == 404 else error.detail
    reply = problem_reply(Refusal(error.status_code, detail))
    headers = {name.decode(): value.decode() for name, value in reply.fields}
    return Response(reply.body, error.status_code, {**(error.headers or {}), **headers})
