"""A VOSpace service that says what a test wants: documents by path, and a log of requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

VOS = "http://www.ivoa.net/xml/VOSpace/v2.0"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
CORE = "ivo://ivoa.net/vospace/core#"
NAMES = f'xmlns:vos="{VOS}" xmlns:xsi="{XSI}" version="2.1"'


def property_of(name: str, text: str) -> str:
    uri = name if ":" in name else CORE + name
    return f'<vos:property uri="{uri}">{text}</vos:property>'


def node(path: str, kind: str = "DataNode", inner: str = "", **properties: str) -> str:
    told = "".join(property_of(name, text) for name, text in properties.items())
    tail = f"<vos:nodes>{inner}</vos:nodes>" if kind == "ContainerNode" else ""
    return (
        f'<vos:node {NAMES} xsi:type="vos:{kind}" uri="vos://a~b{path}">'
        f"<vos:properties>{told}</vos:properties>{tail}</vos:node>"
    )


class Service:
    """What is answered: text, or (status, text, header fields), or a function of the query.

    The field ``cut`` breaks an answer off behind so many bytes.
    """

    def __init__(self) -> None:
        self.url = ""
        self.pages: dict[str, Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def begin(self, *parts: str) -> None:
        """Forget everything but where these parts are."""
        self.asked.clear()
        names = {
            "nodes": "ivo://ivoa.net/std/VOSpace/v2.0#nodes",
            "synctrans": "ivo://ivoa.net/std/VOSpace#sync-2.1",
            "files": "ivo://ivoa.net/std/VOSpace#files-proto",
        }
        told = "".join(
            f'<capability standardID="{names[part]}"><interface>'
            f"<accessURL>{self.url}/{part}</accessURL></interface></capability>"
            for part in parts or ("nodes", "synctrans")
        )
        self.pages = {
            "GET /capabilities": f"<c:capabilities xmlns:c='x'>{told}</c:capabilities>",
            "GET /nodes": node("", "ContainerNode"),
        }

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        self.asked.append((method, url, headers, body))
        parts = urlsplit(url)
        found = self.pages.get(f"{method} {parts.path}", (404, "NodeNotFound", {}))
        if callable(found):
            found = found({name: values[0] for name, values in parse_qs(parts.query).items()})
        return found if isinstance(found, tuple) else (200, found, {})


@contextmanager
def served() -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            fields = {name.lower(): value for name, value in self.headers.items()}
            status, text, told = service.answer(self.command, self.path, fields, body)
            data = text.encode() if isinstance(text, str) else text
            self.send_response(status)
            cut = told.pop("cut", None)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])
            self.close_connection = cut is not None

        do_GET = do_PUT = do_POST = do_DELETE = _do

        def log_message(self, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has seen enough goes away."""

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
