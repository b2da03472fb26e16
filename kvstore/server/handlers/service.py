"""``/.well-known/kvstore``: what a client must know of this server, and what it can do."""

from __future__ import annotations

import math
from typing import Any

from kvstore.documents import JsonObject
from kvstore.keys import MAX_KEY_BYTES
from kvstore.profiles.service import PARTS, URL_FORMAT, URL_FORMAT_NO_PART
from kvstore.server.answers import REVALIDATE, Reply, json_reply
from kvstore.server.exchange import Exchange
from kvstore.server.site import Site
from kvstore.values import PUBLIC
from kvstore.version import __version__

PROTOCOL = 1
# Limits on every request; seconds are told in whole ones.
_REQUEST_LIMITS = (
    "target",
    "header_lines",
    "header_bytes",
    "header_time",
    "idle_time",
    "rate",
    "query_time",
)
# Limits that belong to the capability that their name begins with.
_LIMITS = ("changes", "batch", "batch_bytes", "have", "have_bytes")


async def get_service(site: Site, _exchange: Exchange) -> Reply:
    """Answer GET and HEAD of the service document."""
    document = await site.workers.run(service_document, site)
    return json_reply(document, [REVALIDATE])


def service_document(site: Site) -> JsonObject:
    """What ``schemas/service.schema.json`` describes."""
    limits, names = site.limits, capabilities(site.info)
    return {
        "protocol": PROTOCOL,
        "server": {"name": "kvstore", "version": __version__},
        "profile": {
            **site.paths.relative(names),
            "url_format": URL_FORMAT,
            "url_format_no_part": URL_FORMAT_NO_PART,
            "parts": _parts(site),
        },
        "capabilities": names,
        "store": {**site.store.info(), "readonly": not site.is_writable},
        "limits": {
            "key": MAX_KEY_BYTES,
            "metadata": limits.metadata,
            "data": limits.data,
            "page": limits.page,
            **{name: math.ceil(getattr(limits, name)) for name in _REQUEST_LIMITS},
            **{name: getattr(limits, name) for name in _LIMITS if name.split("_")[0] in names},
        },
        "user": _user(site),
    }


def capabilities(info: dict[str, Any]) -> list[str]:
    """The extensions that a store with this ``info()`` allows."""
    allowed = {
        "value": info.get("atomic_set", False),
        "conditional": info.get("conditional", False),
        "digest": info.get("digests", False),
        "records": True,
        "folders": True,
        "versions": bool(info.get("versions")),
        "changes": info.get("changes", False),
        "batch": info.get("transactions", False) and not info.get("readonly", False),
        "uploads": info.get("atomic_set", False) and not info.get("readonly", False),
        "have": info.get("digests", False),
    }
    return [name for name, is_allowed in allowed.items() if is_allowed]


def _parts(site: Site) -> dict[str, str]:
    parts = dict(PARTS)
    if not site.is_authorizing:
        del parts["permissions"]
    return parts


def _user(site: Site) -> JsonObject:
    tag = site.user_tag()
    tags = {tag, PUBLIC} if site.caller is None else site.caller.tags
    return {"tag": tag, "tags": sorted(tags)}
