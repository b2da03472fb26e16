"""Bytes over VOSpace 2.1: where to send them to and to get them from, and their transfer.

The letters beside cases say where they come from: S is the standard, P and C are the tests of
pyvospace and of opencadc/vos (cadc-test-vos), told as facts.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from kvstore.stores.memory import MemoryStore
from tests.cases import each, empty
from tests.gateways.vos_space import (
    CORE,
    ROOT,
    VOS,
    XSI,
    Space,
    endpoints_in,
    path_in,
    phase_of,
    transfer,
    uri,
)


@pytest.fixture
def small(space: Space) -> Space:
    space.make("lab/", "lab/run")
    space.put("link", "LinkNode", target=uri("lab"))
    return space


# -- bytes -----------------------------------------------------------------------------------------


def test_bytes_there_and_back(small: Space, store: MemoryStore) -> None:
    data = bytes(range(256)) * 9000  # over a megabyte, so that it is sent on as it comes
    digest = "md5=" + base64.b64encode(hashlib.md5(data).digest()).decode()
    answer = small.upload("lab/big", data, "Content-Type: image/fits", f"Digest: {digest}")
    assert answer.status == 201
    assert answer.headers["Digest"] == digest  # 61 C
    answer = small.ask("GET", "/files/lab/big")  # 62 C P
    assert answer.body == data
    assert answer.headers["Content-Type"] == "image/fits"
    assert answer.headers["Digest"] == digest
    answer = small.ask("HEAD", "/files/lab/big")  # 67 C
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="big"'
    assert answer.headers["Last-Modified"]
    part = small.ask("GET", "/files/lab/big", "Range: bytes=10-19")
    assert (part.status, part.body) == (206, data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
    assert small.properties("lab/big")["MD5"] == hashlib.md5(data).hexdigest()
    assert store.record("lab/big").mimetype == "image/fits"


@each("size", [0, 10, 2_000_000])
def test_other_bytes_than_were_announced_leave_nothing(
    small: Space, store: MemoryStore, size: int
) -> None:
    wrong = "md5=" + base64.b64encode(b"0" * 16).decode()
    answer = small.upload("lab/new", bytes(size), f"Digest: {wrong}")
    assert answer.status == 412  # 60 C
    assert not store.exists("lab/new")
    assert small.fault("PUT", "/files/lab/new", "Digest: md5=short", body=b"x")[0] == 400


def test_metadata_stay_when_bytes_are_sent_again(space: Space, store: MemoryStore) -> None:
    store.set("n", (b"old", {"title": "kept", "vospace": {"properties": {"urn:x:y": "z"}}}))
    for data in (b"new", bytes(2_000_000)):
        assert space.upload("n", data).status == 201
        told = space.properties("n")
        assert (told["title"], told["urn:x:y"]) == ("kept", "z")
        assert told["MD5"] == hashlib.md5(data).hexdigest()


BYTES = [
    ("GET", "missing", 404, "NodeNotFound"),
    ("GET", "lab", 400, "InvalidArgument"),
    ("PUT", "lab", 400, "InvalidArgument"),  # 71 P
    ("PUT", "", 400, "InvalidArgument"),
    ("PUT", "none/n", 404, "ContainerNotFound"),
    ("PUT", "lab/run/n", 404, "ContainerNotFound"),
    ("GET", "file", 400, "InvalidURI"),  # 70 C
    ("GET", "http", 400, "InvalidURI"),
    ("PUT", "http", 400, "InvalidURI"),
    ("DELETE", "lab/run", 405, "OperationNotSupported"),
    ("GET", "lab/run?job=x", 400, "InvalidArgument"),  # 73 P
    ("GET", f"lab/run?job={'0' * 32}", 404, "NodeNotFound"),
]


@each("method, path, status, fault", BYTES)
def test_bytes_that_there_are_not(
    small: Space, method: str, path: str, status: int, fault: str
) -> None:
    small.put("file", "LinkNode", target="file:///etc/passwd")
    small.put("http", "LinkNode", target="http://127.0.0.1:9/")
    body = b"data" if method == "PUT" else b""
    assert small.fault(method, f"/files/{path}", body=body) == (status, fault)


def test_bytes_behind_links(small: Space, store: MemoryStore) -> None:
    small.put("to-run", "LinkNode", target=uri("link/run"))
    assert small.bytes_of("link/run") == b"lab/run"  # 64 C
    assert small.bytes_of("to-run") == b"lab/run"  # 63 C
    assert small.upload("to-run", b"new").status == 201
    assert small.upload("link/more", b"more").status == 201
    assert store.to_bytes("lab/run") == b"new"
    assert store.to_bytes("lab/more") == b"more"
    assert small.get("to-run").get(f"{XSI}type") == "vos:LinkNode"


def test_conditions_hold(space: Space, store: MemoryStore) -> None:
    space.upload("n", b"one")
    tag = space.ask("HEAD", "/files/n").headers["ETag"]
    assert space.ask("GET", "/files/n", f"If-None-Match: {tag}").status == 304
    assert space.upload("n", b"two", f"If-Match: {tag}").status == 201
    assert space.upload("n", b"three", f"If-Match: {tag}").status == 412
    assert space.upload("n", bytes(2_000_000), "If-None-Match: *").status == 412
    assert store.to_bytes("n") == b"two"


@each("size", [3, 2_000_000])
def test_what_is_sent_to_null_is_gone(space: Space, store: MemoryStore, size: int) -> None:
    assert space.upload(".null", bytes(size)).status == 201  # compliance item 42
    assert space.put(".null").status == 400
    assert space.upload(".auto", b"data").status == 400  # who asks where to is told a name
    assert list(store.query_keys()) == []


@each("name", ['a"b;c', "ä", "a\r\nX-Y: z", "plain name.txt"])
def test_names_of_files_in_headers(space: Space, store: MemoryStore, name: str) -> None:
    empty(store)
    store.set_data(name, b"data", mimetype="text/plain")
    answer = space.ask("GET", f"/files/{uri(name).removeprefix(ROOT + '/')}")
    told = answer.headers["Content-Disposition"]
    assert told.startswith("inline; filename")
    assert "\n" not in told
    assert answer.headers["X-Y"] is None


# -- transfers at once (section 6.4) ---------------------------------------------------------------


def _negotiate(space: Space, body: str) -> tuple[str, Any]:
    answer = space.ask("POST", "/synctrans", "Content-Type: text/xml", body=body)
    assert answer.status == 303, answer
    path = space.path_of(answer)
    job = path.removesuffix("/results/transferDetails")
    assert job != path
    return job, space.document(path)


@each("protocol", ["httpput", "httpsput"])
def test_a_place_to_send_bytes_to(small: Space, store: MemoryStore, protocol: str) -> None:
    job, found = _negotiate(small, transfer("lab/n", "pushToVoSpace", protocol))  # 59
    assert small.ask("GET", f"{job}/phase").body == b"COMPLETED"
    (endpoint,) = endpoints_in(found)
    assert small.ask("PUT", path_in(endpoint), body=b"data").status == 201
    assert store.to_bytes("lab/n") == b"data"


@each("path", ["lab/run", "link/run"])
def test_a_place_to_get_bytes_from(small: Space, path: str) -> None:
    _, found = _negotiate(small, transfer(path, "pullFromVoSpace", "httpget", "httpsget"))
    one, other = endpoints_in(found)
    assert one == other
    assert small.ask("GET", path_in(one)).body == b"lab/run"


def test_the_server_names_what_is_sent_to_auto(small: Space) -> None:
    _, found = _negotiate(small, transfer("lab/.auto", "pushToVoSpace", "httpput"))
    (endpoint,) = endpoints_in(found)
    assert small.ask("PUT", path_in(endpoint), body=b"data").status == 201
    assert len(small.children("lab")) == 2


@each("method", [None, "ivo://ivoa.net/sso#token"])
def test_methods_of_security_come_back_if_they_were_given(small: Space, method: str | None) -> None:
    body = transfer("lab/run", "pullFromVoSpace", "httpget", security=method)
    _, found = _negotiate(small, body)
    told = [one.get("uri") for one in found.iter(f"{VOS}securityMethod")]
    assert told == ([] if method is None else [method])


FAILED = [
    (transfer("none", "pullFromVoSpace", "httpget"), "NodeNotFound"),
    (transfer("lab", "pullFromVoSpace", "httpget"), "OperationNotSupported"),
    (transfer("none/n", "pushToVoSpace", "httpput"), "ContainerNotFound"),
    (transfer("lab", "pushToVoSpace", "httpput"), "InvalidArgument"),
    (transfer("http", "pullFromVoSpace", "httpget"), "InvalidURI"),  # 72 P
    (transfer("lab/run", "pullFromVoSpace", "ftpget"), "ProtocolNotSupported"),
    (transfer("lab/run", "pullFromVoSpace"), "ProtocolNotSupported"),
    (transfer("lab/run", "pullFromVoSpace", "httpget", view="votable"), "ViewNotSupported"),
    (transfer("lab/n", "pullToVoSpace", "httpget"), "OperationNotSupported"),
    (transfer("lab/run", "pushFromVoSpace", "httpput"), "OperationNotSupported"),
    (transfer("lab/run", "lab/other", keeps="true"), "OperationNotSupported"),
    (transfer("vos://else~where/n", "pullFromVoSpace", "httpget"), "InvalidURI"),
    (
        transfer(
            "lab/run",
            "pullFromVoSpace",
            "httpget",
            security="ivo://ivoa.net/sso#tls-with-certificate",
        ),
        "ProtocolNotSupported",
    ),
]


@each("body, fault", FAILED)
def test_transfers_that_fail_say_so_in_their_job(small: Space, body: str, fault: str) -> None:
    small.put("http", "LinkNode", target="http://127.0.0.1:9/")
    job, found = _negotiate(small, body) if "lab/other" not in body else (None, None)
    if job is None:
        answer = small.ask("POST", "/synctrans", body=body)
        job = small.path_of(answer).removesuffix("/results/transferDetails")
    else:
        assert not list(found.iter(f"{VOS}protocol"))
    assert small.ask("GET", f"{job}/phase").body == b"ERROR"
    assert small.ask("GET", f"{job}/error").body == fault.encode()
    assert phase_of(small.document(job)) == "ERROR"


SHORT = (
    f"TARGET={ROOT}/lab/run&DIRECTION=pullFromVoSpace&PROTOCOL={CORE.replace('#', '%23')}httpget"
)


@each("method", ["GET", "POST"])
def test_transfers_in_a_url(small: Space, method: str) -> None:
    answer = small.ask(method, f"/synctrans?{SHORT}")  # 66 P
    assert answer.status == 200
    answer = small.ask(method, f"/synctrans?{SHORT}&REQUEST=redirect")
    assert answer.status == 303
    assert small.ask("GET", small.path_of(answer)).body == b"lab/run"
    missing = SHORT.replace("lab/run", "none")
    assert small.fault(method, f"/synctrans?{missing}") == (404, "NodeNotFound")
    assert small.fault(method, f"/synctrans?TARGET={ROOT}/n")[0] == (400)
