"""Visits to the data browser by somebody who notices whatever goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page

PATIENCE = 20_000  # milliseconds: an upper bound for slow machines, nothing waits so long
STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


class Visit:
    """Pages of one visitor, and what goes wrong in them."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 800}, **options}
        )
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        #: Statuses of errors that the test asks for; the browser tells of each.
        self.expected: set[int] = set()
        #: Parts of messages that the test asks for.
        self.forgiven: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)

    def open(self, place: str = "#/") -> Page:
        self.page.goto(f"{self.url}/{place}")
        return self.page

    def close(self) -> None:
        titles = [page.title() for page in self.context.pages]
        self.context.close()
        assert not self.errors, self.errors
        assert "PWNED" not in titles

    def _heard(self, message: ConsoleMessage) -> None:
        status = STATUS.match(message.text)
        is_meant = status is not None and int(status[1]) in self.expected
        is_meant = is_meant or any(part in message.text for part in self.forgiven)
        if message.type in ("error", "warning") and not is_meant:
            self.errors.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.errors.append(f"a foreign host was asked: {request.url}")


Visiting = Callable[..., Visit]
Serving = Callable[..., str]
