"""The server as an ASGI application: which URL is answered by which handler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvstore.errors import UnavailableError
from kvstore.keys import check_key
from kvstore.profiles.service import URL_FORMAT, URL_FORMAT_NO_PART
from kvstore.profiles.templates import Template
from kvstore.server.access.callers import Access
from kvstore.server.access.callers import Scope as CallerScope
from kvstore.server.access.views import Views
from kvstore.server.answers import NotAllowedError, Refusal, Reply, problem_reply
from kvstore.server.browser.pages import Page, pages
from kvstore.server.exchange import Exchange
from kvstore.server.feed import Feed
from kvstore.server.gateways import Gateway, by_prefix
from kvstore.server.handlers.data import delete_key
from kvstore.server.handlers.have import post_have
from kvstore.server.handlers.openapi import Description
from kvstore.server.handlers.parameters import refuse_version
from kvstore.server.handlers.service import capabilities
from kvstore.server.handlers.uploads import begin_tus
from kvstore.server.hosts import LOCAL, Hosts
from kvstore.server.kept import KeptAnswers
from kvstore.server.limits import Limits, Reads
from kvstore.server.observing.health import Health
from kvstore.server.observing.metrics import Metrics
from kvstore.server.observing.observer import Observer
from kvstore.server.paths import METRICS_PATH, OPENAPI_PATH, Paths
from kvstore.server.resumable.holding import Holds
from kvstore.server.resumable.partials import Partials
from kvstore.server.routes import (
    KEPT,
    READS_VERSIONS,
    SELECTING,
    UPLOAD,
    allow,
    chosen,
    options,
    parts_of,
    paths_of,
    routes_of,
    templates_of,
)
from kvstore.server.shortcut import Shortcut
from kvstore.server.site import Site
from kvstore.server.workers import Disconnected, Workers
from kvstore.store import ReadOnlyStore

_log = logging.getLogger("kvstore.server")

_PART_URL = Template(URL_FORMAT)
_KEY_URL = Template(URL_FORMAT_NO_PART)


class KeyValueApp(Starlette):
    """The ASGI application over one store; made by :func:`create_app`.

    What is not a URL of the protocol goes to the routes of Starlette: ``app.mount`` and its kin
    put other pages beside the store.
    """

    def __init__(
        self,
        site: Site,
        hosts: Hosts,
        access: Access | None,
        observer: Observer,
        gateways: Iterable[Gateway] = (),
    ) -> None:
        health = Health(site, observer)
        lifespan = _lifespan(site, health)
        super().__init__(exception_handlers={HTTPException: _unknown}, lifespan=lifespan)
        self.router.redirect_slashes = False
        self.site = site
        self.observer = observer
        self._probes = health.probes()
        self._hosts = hosts
        self._views = Views(site, access)
        self._kept = KeptAnswers(site.stamp, site.limits.kept)
        #: For a server that calls this application directly, and not within another one.
        self.shortcut = Shortcut(self._kept, hosts, access, observer)
        self._base = site.paths.base
        self._parts = parts_of(site)
        templates = {**templates_of(site), **health.probes(), **health.paths()}
        description = Description(templates, site, lambda: _abilities(site, access))
        self._paths = {**paths_of(site), **health.paths()}
        self._routes = routes_of(site)
        self._pages: dict[str, Page | Description] = {**pages(), OPENAPI_PATH: description}
        taken = [*self._paths, *self._probes, *self._pages, self._base, site.paths.uploads]
        self._gateways = by_prefix(gateways, taken)
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
            if exchange is not None:
                exchange.gone = True
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer
            exchange = exchange or _bare(scope, receive, send, self.site.limits)
            await self._fail(exchange, error)
        finally:
            if exchange is not None:
                self.observer.finished(exchange)

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> Reply | None:
        path = _raw_path(scope)
        if path in self._probes:  # by whatever name the server is reached
            probe = chosen(exchange, self._probes[path])
            exchange.route = "health"
            return options(self._probes[path]) if probe is None else await probe(exchange)
        self._hosts.check(exchange)
        if path in self._pages:  # for everybody: whoever is to sign in needs it for that
            exchange.route = "page"
            return self._pages[path].reply(exchange)
        if path.startswith(f"{self._base}/"):
            exchange.route = "key"
            return await self._answer_key(await self._seen(exchange), exchange, path)
        gateway = self._gateways.get(path[: path.find("/", 1)] if "/" in path[1:] else path)
        if gateway is not None:
            return await self._answer_through(gateway, exchange, path)
        folder, _, name = path.rpartition("/")
        if self._takes_uploads and self.site.paths.uploads in (path, folder):
            exchange.route = "uploads"
            begin_tus(exchange)
        if self._takes_uploads and self.site.paths.uploads == folder:
            one = chosen(exchange, UPLOAD)
            if one is None:
                return options(UPLOAD)
            return await one(await self._views.of(exchange), exchange, name)
        methods = self._paths.get(path)
        if methods is None:
            await super().__call__(scope, exchange.received, exchange.tracked)
            return None
        exchange.route = self._routes.get(path, "other")
        handler = chosen(exchange, methods)
        if handler is None:
            return options(methods)
        wants: CallerScope | None = "read" if handler is post_have else None  # it changes nothing
        wants = "metrics" if path == METRICS_PATH else wants
        reply = await handler(await self._seen(exchange, wants), exchange)
        if reply is None:
            await exchange.end()
        return reply

    async def _seen(self, exchange: Exchange, wants: CallerScope | None = None) -> Site:
        """What the caller may see; everybody may know which methods a URL has."""
        is_about = exchange.method == "OPTIONS"
        return self.site if is_about else await self._views.of(exchange, wants)

    async def _answer_through(
        self, gateway: Gateway, exchange: Exchange, path: str
    ) -> Reply | None:
        exchange.route = gateway.name
        exchange.refusal = gateway.refusal
        path = path.removeprefix(gateway.prefix)
        known = gateway.public(exchange, path)
        if known is not None:
            return known
        scope = gateway.scope(exchange, path)
        site = await self._views.of(exchange, scope, takes_basic=True)
        reply = await gateway.answer(site, exchange, path)
        if reply is None:
            await exchange.end()
        return reply

    async def _answer_key(self, site: Site, exchange: Exchange, path: str) -> Reply:
        if exchange.method == "DELETE" and site.is_writable:
            if exchange.scope["query_string"]:
                refuse_version(exchange.scope["query_string"])
            key = (_KEY_URL.match(path, base=self._base) or {}).get("key", "")
            return await delete_key(site, exchange, check_key(key))
        found = _PART_URL.match(path, base=self._base)
        methods = self._parts.get(found["part"]) if found is not None else None
        if methods is None or found is None:
            return self._answer_whole_key(exchange, is_part=found is not None)
        exchange.route = found["part"]
        handler = chosen(exchange, methods)
        if handler is None:
            return options(methods)
        if exchange.scope["query_string"] and handler not in READS_VERSIONS:
            refuse_version(exchange.scope["query_string"])
        key = check_key(found["key"])
        if handler not in KEPT or exchange.is_head or exchange.scope["query_string"]:
            return await handler(site, exchange, key)
        target = exchange.scope["raw_path"]
        reader = None if site.caller is None else site.caller.tags
        kept = None if exchange.has(*SELECTING) else self._kept.find(target)
        if kept is not None and reader in kept.readers and self._kept.holds():
            return Reply(200, list(kept.fields), kept.body)
        stamp = self._kept.stamp()
        reply = await handler(site, exchange, key)
        self._kept.keep(target, stamp, reply, exchange.route, reader)
        return reply

    def _answer_whole_key(self, exchange: Exchange, *, is_part: bool) -> Reply:
        """``{base}/{key}``: a key as a whole can only be deleted."""
        methods = ("DELETE",) if self.site.is_writable else ()
        if exchange.method == "OPTIONS":
            return options(methods)
        if is_part or not methods:
            known = ", ".join(self._parts)
            raise Refusal(404, f"A key has no such part; there are {known}.")
        raise NotAllowedError(exchange.method, allow(methods))

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        request_id = exchange.request_id
        reply = problem_reply(error, {**exchange.members, "request_id": request_id})
        is_ours = reply.status >= 500 and not isinstance(error, NotImplementedError)
        if is_ours or exchange.started:
            told = (exchange.method, exchange.scope["path"], request_id)
            extra = {"request_id": request_id}
            if isinstance(error, UnavailableError) and not exchange.started:
                # Said on purpose, and any client may bring it about: no trace fills the log.
                _log.warning("%s %r was put off (request %s): %s", *told, error, extra=extra)
            else:
                _log.error("%s %r failed (request %s)", *told, exc_info=error, extra=extra)
        if exchange.started:
            # Ending it would tell the client that it has all. This makes the server hang up.
            raise ConnectionAbortedError("The answer could not be brought to its end.") from None
        if exchange.refusal is not None:
            reply = self._told_by_gateway(exchange.refusal, error, reply)
        reply.fields += exchange.fields
        with contextlib.suppress(Disconnected):
            await exchange.reply(reply, self.site.workers)

    def _told_by_gateway(
        self, refusal: Callable[[Exception, Reply], Reply], error: Exception, reply: Reply
    ) -> Reply:
        try:
            return refusal(error, reply)
        except Exception:  # noqa: BLE001 - of a package that may be anybody's
            _log.exception("A gateway has no words for %s", type(error).__name__)
            return reply


def create_app(
    store: ReadOnlyStore,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    hosts: Iterable[str] | None = None,
    base: str = "/keys",
    query: str = "/query",
    changes: str = "/changes",
    batch: str = "/batch",
    uploads: str = "/uploads",
    have: str = "/have",
    uploads_folder: Path | None = None,
    metrics: bool = True,
    reads: Reads = "checked",
    gateways: Iterable[Gateway] = (),
) -> KeyValueApp:
    """Return the ASGI application that serves *store*, which is connected by then.

    Args:
        access: tells who sends a request, and so what that one may see and do. None: everybody who
            reaches the server does what the store's own user may do.
        limits: bounds on requests; the default ones if None. Those on headers, connections and
            keep-alive are held by :func:`kvstore.server.serve`, not by the application.
        hosts: names that the server answers to, with any port or as ``name:port``; ``"*"`` is
            every name. None is ``localhost``, ``127.0.0.1`` and ``[::1]``.
        base: path above the keys.
        query: path of queries.
        changes: path of the change feed.
        batch: path of batches of writes.
        uploads: path above the uploads that can be resumed.
        have: path of the question which of many keys are here.
        uploads_folder: where these are kept while they are not complete, so that they can be
            resumed when the server was begun anew. None: in a temporary folder.
        metrics: whether there are numbers for Prometheus at ``/metrics``.
        reads: whether data are checked while they are sent whole, see
            :data:`kvstore.server.limits.Reads`.
        gateways: for the clients of other systems, each below a path of its own.

    Raises:
        InvalidRequestError: a path or a host name that is none, or a path that is given twice.
    """
    paths = Paths(base=base, query=query, changes=changes, batch=batch, uploads=uploads, have=have)
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
        Holds(partials, workers),
        store.info(),
        reads,
    )
    observer = Observer(Metrics() if metrics else None)
    hosts = LOCAL if hosts is None else hosts
    return KeyValueApp(site, Hosts(hosts), access, observer, gateways)


def _abilities(site: Site, access: Access | None) -> list[str]:
    """What there is beside the capabilities, in the words of the description."""
    also = {
        "permissions": site.is_authorizing,
        "access": access is not None,
        "public": access is not None and (access.is_public or access.is_open()),
    }
    return [*capabilities(site.info), *(name for name, is_there in also.items() if is_there)]


def _raw_path(scope: Scope) -> str:
    # Decoded paths cannot tell `%2F` in a key from the `/` before the part.
    raw: bytes = scope["raw_path"]
    root: str = scope.get("root_path", "")
    return raw.decode("latin-1").removeprefix(root)


def _lifespan(
    site: Site, health: Health
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        telling = asyncio.create_task(health.tell())
        yield
        telling.cancel()
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


async def _unknown(request: Request, error: Exception) -> Response:
    """What the routes of Starlette refuse, in the words of this server."""
    if not isinstance(error, HTTPException):
        raise error
    detail = "There is nothing at this URL." if error.status_code == 404 else error.detail
    members = {"request_id": request.state.request_id}
    reply = problem_reply(Refusal(error.status_code, detail), members)
    headers = {name.decode(): value.decode() for name, value in reply.fields}
    return Response(reply.body, error.status_code, {**(error.headers or {}), **headers})
