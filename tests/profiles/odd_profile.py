"""A profile for a scripted server, and a store on it."""

from __future__ import annotations

from typing import Any

from kvstore import DynamicURLStore
from kvstore.transport.policy import Policy
from tests.transport.wire_server import WireServer

ONCE = Policy(attempts=1)
GET = {"url": "{base}/{key}"}


def profile(**members: Any) -> dict[str, Any]:
    operations = {"get": GET, "head": GET, "set": GET, "delete": GET, **members.pop("ops", {})}
    return {"profile": 1, "name": "odd", "operations": operations, **members}


def opened(server: WireServer, document: dict[str, Any], **options: Any) -> DynamicURLStore:
    store = DynamicURLStore(server.url, profile=document, policy=ONCE, **options)
    store.connect()
    return store
