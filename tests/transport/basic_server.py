"""A server of the basic protocol alone, over a dict, as somebody else might write it.

It has no service document. ETags and ranges, which any HTTP server may have, come by switch.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from tests.transport.wire_server import Seen


@dataclass
class Entry:
    """What is stored under a key."""

    data: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    auth: dict[str, list[str]] = field(default_factory=lambda: {"owned": ["basic"]})
    mimetype: str = "application/octet-stream"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: BasicServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._record()
        parts = urlsplit(self.path)
        if parts.path == "/query":
            self._query(parse_qsl(parts.query, strict_parsing=True) if parts.query else [])
            return
        key, part = self._named(parts.path)
        entry = self.server.entries.get(key)
        if entry is None or part not in ("data", "metadata", "auth"):
            self._answer(404, b"<h1>Nothing here</h1>", Content_Type="text/html")
        elif part == "data":
            self._data(entry)
        else:
            document = entry.metadata if part == "metadata" else entry.auth
            self._answer(200, json.dumps(document).encode(), Content_Type="application/json")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self._record()
        key, part = self._named(self.path)
        existed = key in self.server.entries
        entry = self.server.entries.setdefault(key, Entry())
        if part == "data":
            entry.data, entry.mimetype = body, self.headers.get("Content-Type", entry.mimetype)
        elif part == "metadata":
            entry.metadata = json.loads(body)
        else:
            entry.auth = json.loads(body)
        self._answer(204 if existed else 201, b"", **self._tag(entry))

    def do_POST(self) -> None:
        body = self._record()
        key, part = self._named(self.path)
        entry = self.server.entries.get(key)
        if entry is None:
            self._answer(404, b"")
        elif part == "metadata":
            entry.metadata.update(json.loads(body))
            self._answer(204, b"")
        else:
            for name, tags in json.loads(body).items():
                entry.auth[name] = sorted({*entry.auth.get(name, []), *tags})
            self._answer(204, b"")

    def do_DELETE(self) -> None:
        self._record()
        key = unquote_to_bytes(self.path.removeprefix("/keys/")).decode()
        self._answer(204 if self.server.entries.pop(key, None) is not None else 404, b"")

    def _record(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, 0, b"", body, is_whole=True)
        self.server.seen.append(seen)
        return body

    def _named(self, path: str) -> tuple[str, str]:
        if not path.startswith("/keys/"):
            return "", ""
        key, _, part = path.removeprefix("/keys/").rpartition("/")
        return unquote_to_bytes(key).decode(), part

    def _query(self, parameters: list[tuple[str, str]]) -> None:
        found = [
            key
            for key, entry in self.server.entries.items()
            if all(
                name in entry.metadata and entry.metadata[name] == json.loads(value)
                for name, value in parameters
            )
        ]
        body = "".join(f"{key}\n" for key in found).encode()
        self._answer(200, body, Content_Type="text/plain")

    def _data(self, entry: Entry) -> None:
        asked = self.headers.get("Range")
        if asked is None or not self.server.ranges:
            self._answer(200, entry.data, Content_Type=entry.mimetype, **self._tag(entry))
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, size = int(first), len(entry.data)
        end = min(int(last) + 1, size) if last else size
        if start >= size:
            self._answer(416, b"", Content_Range=f"bytes */{size}")
        else:
            told = f"bytes {start}-{end - 1}/{size}"
            self._answer(206, entry.data[start:end], Content_Range=told, **self._tag(entry))

    def _tag(self, entry: Entry) -> dict[str, str]:
        return {"ETag": f'"{sha256(entry.data).hexdigest()[:16]}"'} if self.server.etags else {}

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)


class BasicServer(ThreadingHTTPServer):
    """Its ``entries`` can be looked into and changed; its ``seen`` has what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *, etags: bool, ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.etags = etags
        self.ranges = ranges
        self.entries: dict[str, Entry] = {}
        self.seen: list[Seen] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that are gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def told(self) -> list[str]:
        """Method and target of what it was asked, but for the service document."""
        return [str(seen) for seen in self.seen if "/.well-known/" not in seen.target]


@contextlib.contextmanager
def basic_server(*, etags: bool = False, ranges: bool = False) -> Iterator[BasicServer]:
    """A running server, ended on leaving."""
    with BasicServer(etags=etags, ranges=ranges) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
