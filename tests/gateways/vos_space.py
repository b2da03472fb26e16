"""A space to be asked by hand: requests, documents, and the schema that all answers must fit."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import xmlschema
from defusedxml.ElementTree import fromstring

from tests.server.sockets import Answer, ask

DATA = Path(__file__).parent.parent / "data"
IDENTIFIER = "ivo://kvstore.test/space"
ROOT = "vos://kvstore.test~space"
CORE = "ivo://ivoa.net/vospace/core#"
VOS = "{http://www.ivoa.net/xml/VOSpace/v2.0}"
UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_NAMES = (
    'xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)


@functools.cache
def schema(name: str) -> Any:
    """Return one of the schemas in the folder of data."""
    return xmlschema.XMLSchema10(str(DATA / name))


def check(body: bytes) -> None:
    """Fail unless a document is valid against the schema of its kind."""
    text = body.decode()
    fromstring(body)
    if "VOSI" in text[:300]:
        return  # has a schema of its own, of which clients read three attributes
    schema("uws.xsd" if "<uws:" in text[:100] else "vospace.xsd").validate(text)


@dataclass
class Space:
    """The space at *url*, asked with the header lines of one caller."""

    url: str
    lines: tuple[str, ...] = ()
    #: Documents that were valid.
    seen: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, *lines: str, body: bytes | str = b"") -> Answer:
        """Send a request below ``/vos``; a document in the answer must be valid."""
        if isinstance(body, str):
            body = body.encode()
        answer = ask(self.url, method, f"/vos{path}", *self.lines, *lines, body=body)
        if (answer.headers["Content-Type"] or "").startswith("text/xml") and answer.body:
            check(answer.body)
            self.seen.append(path)
        return answer

    def fault(
        self, method: str, path: str, *lines: str, body: bytes | str = b""
    ) -> tuple[Any, ...]:
        """Return the status and the name of the fault that a request is answered by."""
        answer = self.ask(method, path, *lines, body=body)
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8", answer
        return answer.status, answer.body.decode().split()[0]

    def put(self, path: str, kind: str = "DataNode", **options: Any) -> Answer:
        """Make a node."""
        return self.ask("PUT", f"/nodes/{quote(path)}", body=node(path, kind, **options))

    def make(self, *paths: str) -> None:
        """Make containers where the path ends in a slash, else data nodes with their path."""
        for path in paths:
            kind = "ContainerNode" if path.endswith("/") else "DataNode"
            path = path.rstrip("/")
            if kind == "DataNode":
                assert self.upload(path, path.encode()).status == 201
            else:
                assert self.put(path, kind).status == 201

    def post(self, path: str, kind: str = "DataNode", **options: Any) -> Answer:
        """Set properties of a node."""
        return self.ask("POST", f"/nodes/{quote(path)}", body=node(path, kind, **options))

    def upload(self, path: str, data: bytes, *lines: str) -> Answer:
        """Send bytes."""
        return self.ask("PUT", f"/files/{quote(path)}", *lines, body=data)

    def bytes_of(self, path: str) -> bytes:
        """Fetch bytes."""
        answer = self.ask("GET", f"/files/{quote(path)}")
        assert answer.status == 200, answer
        return answer.body

    def get(self, path: str = "", query: str = "") -> Any:
        """Return the document of a node."""
        answer = self.ask("GET", f"/nodes/{quote(path)}{query}")
        assert answer.status == 200, answer
        return fromstring(answer.body)

    def children(self, path: str = "", query: str = "") -> list[str]:
        """Return the names of the children of a container."""
        found = self.get(path, query).findall(f"{VOS}nodes/{VOS}node")
        return [child.get("uri").rpartition("/")[2] for child in found]

    def properties(self, path: str) -> dict[str, str]:
        """Return the properties of a node, those of the core vocabulary without its URI."""
        found = self.get(path, "?limit=0").findall(f"{VOS}properties/{VOS}property")
        return {one.get("uri").removeprefix(CORE): one.text or "" for one in found}

    # -- jobs ------------------------------------------------------------------------------

    def job(self, kind: str, body: str, *lines: str) -> str:
        """Make a job, and return its path."""
        answer = self.ask("POST", f"/{kind}", *lines, body=body)
        assert answer.status == 303, answer
        return self.path_of(answer)

    def run(self, kind: str, body: str) -> Any:
        """Make a job, run it, and return its document once it has ended."""
        path = self.job(kind, body)
        assert phase_of(self.document(path)) == "PENDING"
        assert self.ask("POST", f"{path}/phase", body="PHASE=RUN").status == 303
        return self.document(f"{path}?WAIT=20")

    def document(self, path: str) -> Any:
        """Return the document at a path."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return fromstring(answer.body)

    def path_of(self, answer: Answer) -> str:
        """Return where an answer sends to, within the space."""
        location = answer.headers["Location"]
        assert location.startswith(f"{self.url}/vos/"), location
        return str(location.removeprefix(f"{self.url}/vos"))


def uri(path: str) -> str:
    """Return the URI of a node."""
    return f"{ROOT}/{quote(path)}" if path else ROOT


def node(
    path: str,
    kind: str | None = "DataNode",
    *,
    target: str | None = None,
    properties: dict[str, str | None] | None = None,
    at: str | None = None,
) -> str:
    """Return the document of a node; a property of None is to be deleted."""
    told = "".join(_property(name, text) for name, text in (properties or {}).items())
    tail = {"LinkNode": f"<vos:target>{escape(target or '')}</vos:target>"}.get(kind or "", "")
    tail = "<vos:nodes/>" if kind == "ContainerNode" else tail
    where = f" uri={quoteattr(uri(path) if at is None else at)}" if at != "" else ""
    told_kind = "" if kind is None else f' xsi:type="vos:{kind}"'
    return (
        f"<vos:node {_NAMES}{told_kind}{where}>"
        f"<vos:properties>{told}</vos:properties>{tail}</vos:node>"
    )


def _property(name: str, text: str | None) -> str:
    about = quoteattr(name if ":" in name else CORE + name)
    if text is None:
        return f'<vos:property uri={about} xsi:nil="true"/>'
    return f"<vos:property uri={about}>{escape(text)}</vos:property>"


def transfer(
    target: str,
    direction: str,
    *protocols: str,
    keeps: str | None = None,
    view: str | None = None,
    security: str | None = None,
) -> str:
    """Return the document of a transfer; *direction* is a word of the standard, or a path."""
    is_word = direction.endswith("VoSpace")
    where = direction if is_word or ":" in direction else uri(direction)
    method = "" if security is None else f'<vos:securityMethod uri="{security}"/>'
    inner = "" if view is None else f'<vos:view uri="{CORE}{view}"/>'
    inner += "".join(
        f'<vos:protocol uri="{CORE}{name}">{method}</vos:protocol>' for name in protocols
    )
    inner += "" if keeps is None else f"<vos:keepBytes>{keeps}</vos:keepBytes>"
    at = target if ":" in target else uri(target)
    return (
        f'<vos:transfer {_NAMES} version="2.1"><vos:target>{at}</vos:target>'
        f"<vos:direction>{where}</vos:direction>{inner}</vos:transfer>"
    )


def phase_of(job: Any) -> str:
    """Return the phase in the document of a job."""
    return str(job.findtext(f"{UWS}phase"))


def message_of(job: Any) -> str:
    """Return what the summary of an error says."""
    return str(job.findtext(f"{UWS}errorSummary/{UWS}message"))


def results_of(job: Any) -> dict[str, str]:
    """Return what came of a job."""
    href = "{http://www.w3.org/1999/xlink}href"
    return {one.get("id"): one.get(href) for one in job.findall(f"{UWS}results/{UWS}result")}


def endpoints_in(document: Any) -> list[str]:
    """Return the URLs in the document of a transfer."""
    return [one.text for one in document.iter(f"{VOS}endpoint")]


def path_in(url: str) -> str:
    """Return the path below ``/vos`` of a URL of the server."""
    return re.sub(r"^https?://[^/]+/vos", "", url)
