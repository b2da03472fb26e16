"""Stores that talk to the servers of these tests."""

from __future__ import annotations

from typing import Any

import requests

from kvstore import DynamicURLStore
from kvstore.transport.policy import Policy
from tests.transport.wire_server import WireServer, as_json

#: Tries once, and so never pauses.
ONCE = Policy(attempts=1)
#: Tries as often as by default, without pauses.
HASTY = Policy(backoff=0)
EVERYTHING = ("value", "conditional", "digest", "records")


def announced(*capabilities: str, **members: Any) -> bytes:
    """The service document of a server with these abilities."""
    profile = {"base": "/keys", "query": "/query"}
    document = {"protocol": 1, "profile": profile, "capabilities": list(capabilities)}
    return as_json({**document, **members})


def client(
    server: WireServer, policy: Policy = ONCE, credentials: Any = None, **options: Any
) -> DynamicURLStore:
    """A connected store on *server*."""
    store = DynamicURLStore(f"{server.url}/keys", f"{server.url}/query", policy=policy, **options)
    store.connect(credentials)
    return store


def whole() -> tuple[None, requests.Session]:
    """Credentials with a session that must be used as it is, since it has a hook."""
    session = requests.Session()
    session.trust_env = False
    session.hooks["response"].append(lambda response, **told: None)
    return None, session
