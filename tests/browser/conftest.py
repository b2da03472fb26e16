"""The data browser in a real browser, over a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from tests.browser.visits import PATIENCE, Visit, Visiting

expect.set_options(timeout=PATIENCE)


# Of these tests alone, so that its event loop is gone from this thread before any others run.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium and no google-chrome on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves stores until the test and its visits have ended; gives their URLs."""
    with ExitStack() as stack:
        yield lambda store, **more: stack.enter_context(serve_background(store, **more))


@pytest.fixture
def visit(chromium: Browser, serve: object) -> Iterator[Visiting]:
    """Begins visits, and looks at their end whether anything went wrong."""
    visits: list[Visit] = []

    def begin(url: str, **options: Any) -> Visit:
        visits.append(Visit(chromium, url, **options))
        return visits[-1]

    yield begin
    for one in visits:
        one.close()


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore(user_tag="ann", keep_versions=5)
    with store, serve_background(store) as url:
        yield store, url


@pytest.fixture
def store(_served: tuple[MemoryStore, str]) -> MemoryStore:
    """The store behind `url`, empty."""
    store = _served[0]
    for key in list(store.query_keys()):
        store.delete(key)
    return store


@pytest.fixture
def url(_served: tuple[MemoryStore, str], store: MemoryStore) -> str:
    return _served[1]


@pytest.fixture
def visitor(visit: Visiting, url: str) -> Visit:
    return visit(url)
