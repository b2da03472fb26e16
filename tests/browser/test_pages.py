"""The files of the page, as any client sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from kvstore.errors import InvalidRequestError
from kvstore.server import create_app, serve_background
from kvstore.server.browser.pages import pages
from kvstore.stores.memory import MemoryStore

ASSETS = Path(__file__).parents[2] / "kvstore" / "server" / "browser" / "assets"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serve_background(MemoryStore()) as url:
        yield url


def test_every_file_is_served_and_kept_from_harm(served: str) -> None:
    names = {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*") if path.is_file()}
    assert {f"/-/browser/{name}" for name in names - {"index.html"}} | {"/"} == pages().keys()
    for path in pages():
        answer = requests.get(served + path, timeout=30)
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        again = requests.get(
            served + path, headers={"If-None-Match": answer.headers["ETag"]}, timeout=30
        )
        assert (again.status_code, again.content) == (304, b"")
        head = requests.head(served + path, timeout=30)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(answer.content)))
        assert requests.put(served + path, data=b"x", timeout=30).status_code == 405
    assert requests.get(served, timeout=30).headers["Content-Type"] == "text/html; charset=utf-8"
    assert requests.get(f"{served}/-/browser/../app.py", timeout=30).status_code == 404


def test_no_file_makes_markup_of_text_or_asks_another_host() -> None:
    for path in ASSETS.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        )
        assert found == [], path
        hosts = set(re.findall(r"https?://[\w.]+", text))
        assert hosts <= {"http://www.w3.org"}, path  # which is the name of SVG
        assert not re.search(r"""\sstyle=|\son\w+=["']|"style",""", text), path


def test_no_other_url_takes_its_place() -> None:
    for base in ("/-", "/-/browser"):
        with pytest.raises(InvalidRequestError, match="data browser"):
            create_app(MemoryStore(), base=base)
