"""A small server of a protocol of its own, such as a lab may have: a shelf of named items.

The package knows nothing of it; the profile in docs/profiles.md describes it. ::

    GET, HEAD /shelf/item?name=N      the bytes; X-Revision, X-Checksum (SHA-256), X-Note (JSON)
    POST /shelf/item?name=N           store the bytes, and X-Note; answers JSON
    POST /shelf/note?name=N&mode=M    replace or merge the note, which is in X-Note
    POST /shelf/discard?name=N        answers 200 in any case, and says what it did
    GET /shelf/names?from=P&at=C      a JSON document a line, some at a time; X-Next has the next C

X-Shelf-Key is the password. There is no item: 410. X-Complaint says what is wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 7


@dataclass
class Item:
    """What lies on the shelf under a name."""

    data: bytes = b""
    note: dict[str, Any] = field(default_factory=dict)
    kind: str = "application/octet-stream"
    revision: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: ShelfServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._body()
        if not self._may_enter():
            return
        if self._path == "/shelf/names":
            self._names()
            return
        with self.server.lock:
            item = self.server.items.get(self._asked("name"))
        if self._path != "/shelf/item" or item is None:
            self._complain(410, "there is no such item on the shelf")
            return
        headers = {
            "Content-Type": item.kind,
            "X-Revision": str(item.revision),
            "X-Checksum": sha256(item.data).hexdigest(),
            "X-Note": json.dumps(item.note),
        }
        self._answer(200, item.data, headers)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self._body()
        if not self._may_enter():
            return
        with self.server.lock:
            name = self._asked("name")
            item = self.server.items.get(name)
            if not self._holds(item):
                self._complain(412, "somebody else was here")
            elif self._path == "/shelf/item":
                self._store(name, item, body)
            elif self._path == "/shelf/note":
                self._note(item)
            else:
                self.server.items.pop(name, None)
                said = "nothing to discard" if item is None else "discarded"
                self._answer(200, said.encode(), {})

    def _store(self, name: str, item: Item | None, body: bytes) -> None:
        kept = item or Item()
        told = self.headers.get("X-Note")
        note = kept.note if told is None else json.loads(told)
        kind = self.headers.get("Content-Type", kept.kind)
        revision = next(self.server.revisions)
        self.server.items[name] = Item(body, note, kind, revision)
        document = {"stored": True, "revision": revision}
        self._answer(201 if item is None else 200, json.dumps(document).encode(), {})

    def _note(self, item: Item | None) -> None:
        if item is None:
            self._complain(410, "there is no such item on the shelf")
            return
        note = json.loads(self.headers["X-Note"])
        item.note = {**item.note, **note} if self._asked("mode") == "merge" else note
        item.revision = next(self.server.revisions)
        self._answer(200, json.dumps({"revision": item.revision}).encode(), {})

    def _names(self) -> None:
        start, at = self._asked("from"), self._asked("at")
        with self.server.lock:
            names = sorted(name for name in self.server.items if name.startswith(start))
            names = [name for name in names if name > at or not at]
            lines = [
                json.dumps({"name": name, "bytes": len(item.data), "rev": item.revision})
                for name in names[:PAGE]
                if (item := self.server.items[name])
            ]
        headers = {"X-Next": json.dumps(names[PAGE - 1])} if len(names) > PAGE else {}
        self._answer(200, "".join(f"{line}\n" for line in lines).encode(), headers)

    def _holds(self, item: Item | None) -> bool:
        match, none_match = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if none_match == "*" and item is not None:
            return False
        if match is None:
            return True
        return item is not None and match in ("*", f'"{item.revision}"')

    def _may_enter(self) -> bool:
        if self.server.password in (None, self.headers.get("X-Shelf-Key")):
            return True
        self._complain(401, "the door is closed")
        return False

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    def _asked(self, name: str) -> str:
        values = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        value = values.get(name, [""])[0]
        return json.loads(value) if name == "at" and value else value

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client is gone")
        return body

    def _complain(self, status: int, complaint: str) -> None:
        self._answer(status, b"<h1>No.</h1>", {"X-Complaint": complaint})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class ShelfServer(ThreadingHTTPServer):
    """Its ``items`` can be looked into and changed."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, password: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.password = password
        self.items: dict[str, Item] = {}
        self.revisions = itertools.count(1)
        self.lock = threading.RLock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/shelf"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that are gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def shelf_server(password: str | None = None) -> Iterator[ShelfServer]:
    """A running server, ended on leaving."""
    with ShelfServer(password) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
