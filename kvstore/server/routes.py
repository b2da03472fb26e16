"""Which handler answers which method of which URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TypeAlias, TypeVar

from kvstore.profiles.service import PARTS, VALUE_PART, VERSIONS_PART
from kvstore.profiles.wire import SERVICE_PATH
from kvstore.server.answers import NotAllowedError, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.batch import post_batch
from kvstore.server.handlers.changes import get_changes
from kvstore.server.handlers.data import get_data, put_data
from kvstore.server.handlers.documents import (
    get_metadata,
    get_permissions,
    post_metadata,
    post_permissions,
    put_metadata,
    put_permissions,
)
from kvstore.server.handlers.have import post_have
from kvstore.server.handlers.preconditions import CONDITIONS
from kvstore.server.handlers.query import get_query
from kvstore.server.handlers.service import capabilities, get_service
from kvstore.server.handlers.uploads import (
    delete_upload,
    head_upload,
    options_uploads,
    patch_upload,
    post_upload,
)
from kvstore.server.handlers.value import get_value, put_value
from kvstore.server.handlers.versions import get_versions, post_versions
from kvstore.server.paths import BROWSER_PATH, METRICS_PATH, OPENAPI_PATH
from kvstore.server.site import Site

#: The handler of a URL that ends in a key and a part, or in the name of an upload.
KeyHandler: TypeAlias = Callable[[Site, Exchange, str], Awaitable[Reply]]
Methods: TypeAlias = Mapping[str, KeyHandler]
PathHandler: TypeAlias = Callable[[Site, Exchange], Awaitable[Reply | None]]
PathMethods: TypeAlias = Mapping[str, PathHandler]
Handler = TypeVar("Handler")

UPLOAD: Methods = {"HEAD": head_upload, "PATCH": patch_upload, "DELETE": delete_upload}

#: What can be asked of an earlier version. Others would answer with, or change, the current one.
READS_VERSIONS = (get_data, get_value)

#: What answers a GET by nothing but the URL, the store and what the caller may see of it, where the
#: request has no field of those that follow.
KEPT = (get_data, get_metadata, get_value)
SELECTING = (*CONDITIONS, b"range", b"if-range")


def paths_of(site: Site) -> dict[str, PathMethods]:
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
    if "have" in names:
        paths[site.paths.have] = {"POST": post_have}
    if "uploads" in names:
        paths[site.paths.uploads] = {"POST": post_upload, "OPTIONS": options_uploads}
    return paths


def routes_of(site: Site) -> dict[str, str]:
    """What the paths are called in metrics; the parts of keys have their own names."""
    names = {path: name for name, path in asdict(site.paths).items()}
    return {**names, SERVICE_PATH: "service", OPENAPI_PATH: "service", METRICS_PATH: "metrics"}


def parts_of(site: Site) -> dict[str, Methods]:
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
    if "versions" in capabilities(site.info):
        parts[VERSIONS_PART] = {"GET": get_versions, "POST": post_versions}
    return {part: _methods(site, methods) for part, methods in parts.items()}


def templates_of(site: Site) -> dict[str, list[str]]:
    """Which methods each URL has; ``{key}``, ``{upload}`` and ``{file}`` stand for any names."""
    base, uploads = site.paths.base, site.paths.uploads
    found = {path: list(methods) for path, methods in paths_of(site).items()}
    found |= {f"{base}/{{key}}/{part}": list(its) for part, its in parts_of(site).items()}
    if site.is_writable:
        found[f"{base}/{{key}}"] = ["DELETE"]
    if uploads in found:
        found[f"{uploads}/{{upload}}"] = list(UPLOAD)
    for path in ("/", f"{BROWSER_PATH}/{{file}}", OPENAPI_PATH):
        found[path] = ["GET", "HEAD"]
    return found


def _methods(site: Site, methods: Methods) -> Methods:
    served = {"GET": methods["GET"], "HEAD": methods["GET"]}
    return {**served, **methods} if site.is_writable else served


def chosen(exchange: Exchange, methods: Mapping[str, Handler]) -> Handler | None:
    """The handler of a request, None for OPTIONS where that has none of its own."""
    handler = methods.get(exchange.method)
    if handler is None and exchange.method != "OPTIONS":
        raise NotAllowedError(exchange.method, allow(methods))
    return handler


def allow(methods: Iterable[str]) -> str:
    """The value of ``Allow``."""
    return ", ".join(dict.fromkeys([*methods, "OPTIONS"]))


def options(methods: Iterable[str]) -> Reply:
    """The answer to OPTIONS."""
    return Reply(204, [(b"allow", allow(methods).encode())])
