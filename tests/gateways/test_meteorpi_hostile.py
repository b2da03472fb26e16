"""What no exporter sends, and what large files cost."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import InvalidRequestError, TooLargeError
from kvstore.gateways.meteorpi import MeteorpiGateway
from kvstore.gateways.meteorpi.entities import MAX_FILES, parse_message
from kvstore.gateways.meteorpi.multipart import FilePart, boundary_of
from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.gateways.meteorpi_camera import Camera, Exporter, multipart
from tests.server.commands import peak, serving
from tests.server.sockets import Answer, ask

MIB = 1 << 20
ID = "0123456789abcdef0123456789abcdef"
FORM = 'Content-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: image/png'


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[MemoryStore, str]]:
    with MemoryStore() as store:
        limits = Limits(data=1000, requests=10**6)
        with serve_background(store, limits=limits, gateways=[MeteorpiGateway()]) as url:
            yield store, url


@pytest.fixture
def url(served: tuple[MemoryStore, str]) -> Iterator[str]:
    store, url = served
    yield url
    assert list(store.query_keys()) == []  # nothing here stores anything


def changed(entity: str, **members: Any) -> dict[str, Any]:
    """A message that is right but for these members; ``...`` leaves one out."""
    camera = Camera()
    file_id = camera.file(b"data")
    message = {
        "event": lambda: camera.entity(camera.event(file_id)),
        "file": lambda: camera.entity(file_id),
        "status": lambda: {"type": "status", "status": camera.statuses[camera.status_id]},
    }[entity]()
    message[entity].update(members)
    message[entity] = {k: v for k, v in message[entity].items() if v is not ...}
    return message


MESSAGES = [
    [],
    {},
    {"type": 7},
    {"type": "observation", "observation": {}},
    {"type": "event"},
    {"type": "file", "file": [1]},
    {"type": "cached_entity"},
    {"type": "cached_entity", "cached_entity_id": "../../etc/passwd"},
    {"type": "cached_entity", "cached_entity_id": ID + "\n"},
    {"type": "cached_entity", "cached_entity_id": "０" * 32},
    changed("event", event_id="1"),
    changed("event", event_id=...),
    changed("event", status_id="meteorpi/files/x"),
    changed("event", event_time="yesterday"),
    changed("event", event_time=True),
    changed("event", event_time=1e300),
    changed("event", event_time=-(10**30)),
    changed("event", event_type=["a"]),
    changed("event", files={}),
    changed("event", files=[7]),
    changed("event", files=[{}]),
    changed("event", meta="x"),
    changed("event", meta=[{"type": "number", "key": "a"}]),
    changed("event", meta=[{"type": "number", "key": "a", "value": "1"}]),
    changed("event", meta=[{"type": "date", "key": "a", "value": None}]),
    changed("event", meta=[{"type": "unknown", "key": "a", "value": 1}]),
    changed("event", meta=[{"type": "number", "key": 1, "value": 1}]),
    changed("file", md5=...),
    changed("file", md5="None"),
    changed("file", file_size="many"),
    changed("file", file_time=...),
    changed("status", camera_id=...),
    changed("status", location="here"),
    changed("status", regions={}),
    changed("status", valid_to="later"),
    *(
        changed("file", file_name=name)
        for name in ("../a", "/etc/passwd", "a\\b", "..", ".", "", "a\0", "a\r\nSet-Cookie: b")
    ),
]


@each("message", MESSAGES, ids=[json.dumps(message)[:200] for message in MESSAGES])
def test_what_is_no_message_is_refused_in_words(url, message):
    body = json.dumps(message).encode()
    told = refused(ask(url, "POST", "/meteorpi/import", body=body), 400)
    assert 10 < len(told) < 400


BODIES = [
    b"",
    b"{",
    b"[" * 100_000,
    b'{"type": "event", "type": "file"}',
    b'\xef\xbb\xbf{"type": "event"}',
    b'{"type": "\xff"}',
    b'{"type": NaN}',
    b"!!python/object:os.system [id]",
    b"type: cached_entity",
]


@each("body", BODIES)
def test_what_is_no_json_is_refused(url, body):
    refused(ask(url, "POST", "/meteorpi/import", body=body), 400)


def test_messages_are_bounded(url):
    body = json.dumps(changed("file", file_name="a" * MIB)).encode()
    refused(ask(url, "POST", "/meteorpi/import", body=body), 413)
    files = [changed("file")["file"]] * (MAX_FILES + 1)
    body = json.dumps(changed("event", files=files)).encode()
    assert len(body) < MIB
    assert str(MAX_FILES) in refused(ask(url, "POST", "/meteorpi/import", body=body), 413)


TARGETS = [
    ("POST", "", 404),
    ("POST", "/", 404),
    ("POST", "/import/", 404),
    ("POST", "/import/data", 404),
    ("POST", f"/import/data/{ID}", 404),
    ("POST", f"/import/data/{ID}/{ID}/x", 404),
    ("POST", f"/import/data/{ID}/None", 400),
    ("POST", f"/import/data/..%2f..%2fetc/{ID}", 400),
    ("POST", f"/import/data/{ID}0/{ID}", 400),
    ("POST", f"/import/data/%30{ID[1:]}/{ID}", 400),
    ("GET", "/import", 405),
    ("PUT", f"/import/data/{ID}/{ID}", 405),
]


@each("method, path, status", TARGETS)
def test_what_is_no_url_of_it_is_refused(url, method, path, status):
    answer = ask(url, method, f"/meteorpi{path}")
    refused(answer, status)
    assert answer.headers["Allow"] == ("POST" if status == 405 else None)


def test_the_pages_of_others_may_not_post(url):
    body = json.dumps(changed("status")).encode()
    lines = ("Origin: http://evil.example", "Content-Type: text/plain")
    assert ask(url, "POST", "/meteorpi/import", *lines, body=body).status == 403


def part(content: bytes = b"data", lines: str = FORM, boundary: str = "line") -> bytes:
    return b"".join(multipart((lines, content), boundary=boundary))


UPLOADS = [
    ("application/octet-stream", b"data"),
    ("multipart/form-data", part()),
    ("multipart/mixed; boundary=line", part()),
    ("multipart/form-data; boundary=", part()),
    (f"multipart/form-data; boundary={'x' * 71}", part(boundary="x" * 71)),
    ('multipart/form-data; boundary="a\tb"', part(boundary="a\tb")),
    ("multipart/form-data; boundary=line", b""),
    ("multipart/form-data; boundary=line", b"--line"),
    ("multipart/form-data; boundary=line", b"--line--\r\n"),
    ("multipart/form-data; boundary=line", b"--line\r\nX: " + bytes(9000)),
    ("multipart/form-data; boundary=line", part()[:-5]),
    ("multipart/form-data; boundary=line", part().removesuffix(b"\r\n--line--\r\n")),
    ("multipart/form-data; boundary=line", part() + b"more"),
    ("multipart/form-data; boundary=line", part() + b" " * 1000),
    ("multipart/form-data; boundary=line", b"preamble\r\n" + part()),
    ("multipart/form-data; boundary=line", part(boundary="other")),
    ("multipart/form-data; boundary=line", part(lines=FORM.replace("file", "data", 1))),
    ("multipart/form-data; boundary=line", part(lines=FORM.replace('name="file"; ', ""))),
    ("multipart/form-data; boundary=line", part(lines="Content-Type: image/png")),
    ("multipart/form-data; boundary=line", part(lines=FORM + "\r\n folded")),
    ("multipart/form-data; boundary=line", part(lines=f"{FORM}\r\nContent-Type: text/plain")),
    ("multipart/form-data; boundary=line", part(lines=f"{FORM}\r\nX: {'x' * 9000}")),
    ("multipart/form-data; boundary=line", part(lines=FORM.replace("image/png", "a\tb\x01"))),
    ("multipart/form-data; boundary=line", b"".join(multipart((FORM, b"a"), (FORM, b"b")))),
    ("multipart/form-data; boundary=line", part(b"da\r\n--linear\r\nta")),
]


@each("kind, body", UPLOADS)
def test_what_is_no_upload_of_one_file_is_refused(url, kind, body):
    target = f"/meteorpi/import/data/{ID}/{hashlib.md5(b'data').hexdigest()}"
    refused(ask(url, "POST", target, f"Content-Type: {kind}", body=body), 400)


def test_more_data_than_a_key_may_have_are_refused(url):
    target = f"/meteorpi/import/data/{ID}/{hashlib.md5(bytes(1001)).hexdigest()}"
    for size in (1001, 1_000_000):
        kind = "Content-Type: multipart/form-data; boundary=line"
        refused(ask(url, "POST", target, kind, body=part(bytes(size))), 413)


def refused(answer: Answer, status: int) -> str:
    """The message of a refusal, of which nothing but the protocol's own members is told."""
    assert answer.status == status, answer.body
    told = json.loads(answer.body)
    assert told.keys() == {"state", "message"}
    assert told["state"] == "failed"
    assert "Traceback" not in told["message"]
    message: str = told["message"]
    return message


# -- the parsers alone -----------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["event", "file", "status"]), st.data())
def test_any_value_of_any_member_is_taken_or_refused(entity, data):
    message = changed(entity)
    name = data.draw(st.sampled_from(sorted(message[entity])))
    message[entity][name] = data.draw(JSON)
    try:
        parse_message(json.dumps(message).encode())
    except (InvalidRequestError, TooLargeError) as error:
        assert len(error.message) < 500  # noqa: PT017


@each("size", range(1, 40))
def test_a_part_is_read_the_same_however_it_is_cut(size):
    content = b"\r\n--lin\r\n--line\r--line\r\n\r\n-- line\r\n"
    body = part(content, boundary="line2")
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    read = FilePart(pieces, b"line2", "file")
    assert read.mimetype == "image/png"
    assert b"".join(read) == content


@each(
    "header, boundary",
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="a b:c"', b"a b:c"),
        ("multipart/form-data;boundary=----WebKit0;boundary=other", b"----WebKit0"),
    ],
)
def test_boundaries(header, boundary):
    assert boundary_of(header) == boundary


@each(
    "line",
    [
        'Content-Disposition: form-data; name="file"; filename="a; name=\\"b\\""',
        "content-disposition:form-data;name=file",
        'Content-Disposition: form-data; filename="; name=b"; name="file"',
    ],
)
def test_fields_of_a_part(line):
    assert b"".join(FilePart(iter([part(lines=line)]), b"line", "file")) == b"data"


# -- large files -----------------------------------------------------------------------------------


def large(md5: Any, count: int) -> Iterator[bytes]:
    first, last = part(b"|").split(b"|")
    yield first
    for number in range(count):
        piece = bytes([number]) * MIB
        md5.update(piece)
        yield piece
    yield last


@pytest.mark.slow
def test_a_large_file_needs_no_memory(tmp_path):
    count = 256
    md5 = hashlib.md5()
    length = sum(map(len, large(md5, count)))
    with serving(tmp_path / "store", "--gateway", "meteorpi") as (url, pid):
        camera = Camera()
        exporter = Exporter(f"{url}/meteorpi/import", camera)
        small = camera.file(b"x" * MIB)
        assert exporter.export(small) == "complete"  # so that all of it is imported
        before = peak(pid)
        file_id = camera.file(b"", md5=md5.hexdigest(), file_size=count * MIB)
        assert exporter.post(camera.entity(file_id)).json()["state"] == "need_file_data"
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        fields = {
            "Content-Type": "multipart/form-data; boundary=line",
            "Content-Length": str(length),
        }
        target = f"/meteorpi/import/data/{file_id}/{md5.hexdigest()}"
        connection.request("POST", target, large(hashlib.md5(), count), fields)
        assert json.loads(connection.getresponse().read()) == {"state": "continue"}
        connection.close()
        assert exporter.post(camera.entity(file_id)).json()["state"] == "complete"
        assert peak(pid) - before < 32 * MIB
