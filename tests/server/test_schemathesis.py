"""The server is asked whatever its own description allows, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.server import serve_background
from kvstore.server.access.callers import Access, Authenticator, Caller
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
KEYS = ("a", "sky/m31.fits", "a b/ü.txt")


class Names(Authenticator):
    """Takes the name of one user for a token."""

    async def identify(self, bearer: str) -> Caller | None:
        if bearer != "bob":
            return None
        return Caller("bob", "bob", frozenset({"bob", "public"}), frozenset({"read", "write"}))


def explore(
    store: MemoryStore | SQLiteStore, folder: Path, *options: str, access: Access | None = None
) -> str:
    """Return what the command says of a server over a store."""
    with store, serve_background(store, access=access) as url:
        for key in KEYS:
            store.set(key, (b"hello", {"filter": "B", "exposure": 30.0}))
        store.update_permissions(KEYS[0], {"owned": ["bob"]})
        store.update_permissions(KEYS[1], {"read": ["bob"]})
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
                *("--url", url, "--checks", ",".join(CHECKS), "--no-color", "--warnings", "off"),
                *("--continue-on-failure", "--request-timeout", "20"),
                *options,
            ],
            cwd=folder,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.server.schemathesis_hooks",
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=1200,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)
def test_every_parameter_at_its_bounds(tmp_path: Path) -> None:
    told = explore(
        MemoryStore(),
        tmp_path,
        *("--phases", "coverage", "--generation-deterministic"),
        *("--exclude-path", "/query"),  # nearly a thousand requests, left to the long run
        *("--exclude-method", "HEAD", "--exclude-method", "OPTIONS"),
    )
    assert "No issues found" in told


@pytest.mark.timeout(400)
def test_examples_and_requests_at_random_of_one_of_many_users(tmp_path: Path) -> None:
    told = explore(
        SQLiteStore(tmp_path / "store", keep_versions=2),
        tmp_path,
        *("--phases", "examples,fuzzing,stateful", "--generation-deterministic"),
        *("--max-examples", "4"),
        *("--exclude-method", "HEAD", "--exclude-method", "OPTIONS"),
        *("--header", "Authorization: Bearer bob"),
        access=Access([Names()], failures=10**6),
    )
    assert "No issues found" in told


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_requests_at_random_for_long(kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "store")
    told = explore(store, tmp_path, "--max-time", "600")
    assert "No issues found" in told
