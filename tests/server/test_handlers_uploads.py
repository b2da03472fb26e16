from __future__ import annotations

import hashlib
import io
import json
import re
from urllib.parse import urljoin

import pytest
from tusclient.client import TusClient

from kvstore.server import create_app
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.corpora import keys as corpus_keys
from tests.server.sockets import Wire, ask
from tests.server.test_app import is_legal
from tests.server.tus import (
    DATA,
    PART,
    TUS,
    VALUE,
    base64,
    begin,
    head,
    named,
    offset_of,
    patch,
)

Served = tuple[MemoryStore | SQLiteStore, str]


# -- the whole way -------------------------------------------------------------------------


def test_an_upload_in_parts_is_one_write(journaled: Served) -> None:
    store, url = journaled
    path = begin(url, len(DATA), named(value=json.dumps(VALUE)))
    assert re.fullmatch(r"/uploads/[A-Za-z0-9_-]{32}", path)
    first = patch(url, path, 0, DATA[:200_000])
    assert (first.status, first.headers["Upload-Offset"]) == (204, "200000")
    assert "ETag" not in first.headers
    assert not store.exists("a")
    last = patch(url, path, 200_000, DATA[200_000:])
    assert (last.status, last.headers["Upload-Offset"]) == (204, str(len(DATA)))
    record = store.record("a")
    assert last.headers["ETag"] == f'"{record.revision}"'
    assert last.headers["Repr-Digest"] == f"sha-256=:{base64(hashlib.sha256(DATA).digest())}:"
    assert store.to_bytes("a") == DATA
    assert (record.metadata, record.mimetype) == ({"n": 1}, "image/png")
    assert store.get_permissions("a") == {"owned": {"me"}}
    assert store.sequence() == 1


def test_what_is_there_is_told_before_and_after_the_end(journaled: Served) -> None:
    store, url = journaled
    path = begin(url, 10, named(filename="x"))
    for offset in range(0, 10, 5):
        answer = head(url, path)
        assert answer.headers["Upload-Offset"] == str(offset)
        assert answer.headers["Upload-Length"] == "10"
        assert answer.headers["Upload-Metadata"] == "key YQ==,filename eA=="
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["Upload-Expires"].endswith(" GMT")
        assert patch(url, path, offset, b"12345").status == 204
    answer = head(url, path)
    assert answer.headers["Upload-Offset"] == "10"
    assert answer.headers["ETag"] == f'"{store.record("a").revision}"'
    # Who has not seen the last answer may ask for it again: nothing is written twice.
    again = patch(url, path, 10, b"")
    assert (again.status, again.headers["ETag"]) == (204, answer.headers["ETag"])
    assert store.sequence() == 1


def test_what_is_not_said_stays(journaled: Served) -> None:
    store, url = journaled
    store.set("a", b"old", metadata={"old": 1})
    store.set_permissions("a", {"owned": {"x"}})
    path = begin(url, 3, named(filetype="text/plain"))
    assert patch(url, path, 0, b"new").status == 204
    assert store.to_bytes("a") == b"new"
    assert store.get_metadata("a") == {"old": 1}
    assert store.get_permissions("a") == {"owned": {"x"}}
    assert store.record("a").mimetype == "text/plain"


def test_an_upload_without_data(journaled: Served) -> None:
    store, url = journaled
    answer = ask(
        url, "POST", "/uploads", TUS, "Upload-Length: 0", named(value='{"metadata":{"a":1}}')
    )
    assert answer.status == 201
    assert answer.headers["ETag"] == f'"{store.record("a").revision}"'
    assert (store.to_bytes("a"), store.get_metadata("a")) == (b"", {"a": 1})
    assert offset_of(url, urljoin("/uploads", answer.headers["Location"])) == 0


@pytest.mark.parametrize("count", [1, 5, 10])
def test_creation_with_the_first_bytes(journaled: Served, count: int) -> None:
    store, url = journaled
    data = b"0123456789"
    lines = (TUS, "Upload-Length: 10", named(), PART)
    answer = ask(url, "POST", "/uploads", *lines, body=data[:count])
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, str(count))
    assert store.exists("a") == ("ETag" in answer.headers) == (count == 10)
    if count < 10:
        path = urljoin("/uploads", answer.headers["Location"])
        assert patch(url, path, count, data[count:]).status == 204
    assert store.to_bytes("a") == data


def test_keys_of_all_kinds(url: str, store: MemoryStore) -> None:
    legal = sorted({key for _, key in corpus_keys() if len(key) < 3000 and is_legal(key)})
    with Wire(url) as wire:
        for number, key in enumerate(legal):
            lines = (TUS, "Upload-Length: 3", named(key), PART)
            answer = wire.ask("POST", "/uploads", *lines, body=b"%03d" % number)
            assert answer.status == 201, key
    assert list(store.query_keys()) == legal
    assert store.to_bytes(legal[-1]) == b"%03d" % (len(legal) - 1)


@pytest.mark.parametrize(
    "key", [b"", b"a/../b", b".", b"a\0", b"\xff", b"\xed\xa0\x80", b"x" * 1025]
)
def test_what_is_no_key(url: str, store: MemoryStore, key: bytes) -> None:
    line = f"Upload-Metadata: key {base64(key)}"
    answer = ask(url, "POST", "/uploads", TUS, "Upload-Length: 1", line)
    assert answer.problem["type"] == "urn:kvstore:error:invalid-key"


# -- a client of others --------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [False, True])
def test_a_client_that_knows_nothing_of_us_resumes(journaled: Served, checksum: bool) -> None:
    store, url = journaled
    metadata = {"key": "a/ü", "value": json.dumps(VALUE), "filename": "a.png", "empty": ""}
    first = TusClient(f"{url}/uploads").uploader(
        file_stream=io.BytesIO(DATA),
        chunk_size=100_000,
        metadata=metadata,
        upload_checksum=checksum,
    )
    first.upload_chunk()
    first.upload_chunk()
    again = TusClient(f"{url}/uploads").uploader(
        file_stream=io.BytesIO(DATA), chunk_size=70_000, url=first.url, upload_checksum=checksum
    )
    assert again.offset == 200_000
    again.upload()
    assert again.offset == len(DATA)
    assert store.to_bytes("a/ü") == DATA
    assert store.get_metadata("a/ü") == {"n": 1}
    third = TusClient(f"{url}/uploads").uploader(file_stream=io.BytesIO(DATA), url=first.url)
    assert third.offset == len(DATA)


def test_options(url: str, store: MemoryStore) -> None:
    answer = ask(url, "OPTIONS", "/uploads")
    assert answer.status == 204
    told = {name: answer.headers[name] for name in answer.headers if name.startswith("tus-")}
    assert told == {
        "tus-resumable": "1.0.0",
        "tus-version": "1.0.0",
        "tus-max-size": str(5 << 30),
        "tus-extension": "creation,creation-with-upload,expiration,checksum,termination",
        "tus-checksum-algorithm": "sha1,sha256,md5",
    }
    assert answer.headers["Allow"] == "POST, OPTIONS"
    assert ask(url, "OPTIONS", "/uploads/x").headers["Allow"] == "HEAD, PATCH, DELETE, OPTIONS"


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 4, 6, 10, 11, 10**17])
def test_a_part_goes_on_where_the_upload_ends(journaled: Served, offset: int) -> None:
    store, url = journaled
    path = begin(url, 10)
    assert patch(url, path, 0, b"01234").status == 204
    answer = patch(url, path, offset, b"x")
    assert answer.problem["status"] == 409
    assert answer.headers["Upload-Offset"] == "5"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert patch(url, path, 5, b"56789").status == 204
    assert store.to_bytes("a") == b"0123456789"


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
def test_checksums(journaled: Served, name: str) -> None:
    store, url = journaled
    path = begin(url)
    right = base64(hashlib.new(name, DATA).digest())
    wrong = base64(hashlib.new(name, b"other").digest())
    answer = patch(url, path, 0, DATA, f"Upload-Checksum: {name} {wrong}")
    assert answer.problem["status"] == 460
    assert answer.problem["title"] == "Checksum Mismatch"
    assert offset_of(url, path) == 0
    assert patch(url, path, 0, DATA, f"Upload-Checksum: {name} {right}").status == 204
    assert store.to_bytes("a") == DATA


def test_the_digest_of_a_part(url: str, store: MemoryStore) -> None:
    path = begin(url, 4)
    digest = f"Content-Digest: sha-256=:{base64(hashlib.sha256(b'ab').digest())}:"
    assert patch(url, path, 0, b"xx", digest).problem["type"] == "urn:kvstore:error:integrity"
    assert patch(url, path, 0, b"ab", digest).status == 204
    assert patch(url, path, 2, b"cd").status == 204
    assert store.to_bytes("a") == b"abcd"


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        ("PATCH", [PART, "Upload-Offset: 0"], 412),
        ("PATCH", ["Tus-Resumable: 0.2.2", PART, "Upload-Offset: 0"], 412),
        ("PATCH", [TUS, PART], 400),
        ("PATCH", [TUS, PART, "Upload-Offset: -1"], 400),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Upload-Offset: 0"], 400),
        ("PATCH", [TUS, "Upload-Offset: 0"], 415),
        ("PATCH", [TUS, "Content-Type: text/plain", "Upload-Offset: 0"], 415),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Content-Encoding: gzip"], 415),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Upload-Checksum: crc32 AAAA"], 400),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Upload-Checksum: sha1 ?"], 400),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Upload-Checksum: sha1"], 460),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Content-Digest: nonsense"], 400),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Content-Length: 11"], 413),
        ("PATCH", [TUS, PART, "Upload-Offset: 0", "Origin: http://evil.example"], 403),
        ("DELETE", [TUS, "Sec-Fetch-Site: cross-site"], 403),
        ("POST", [TUS, "Sec-Fetch-Site: cross-site"], 403),
        ("HEAD", [], 412),
        ("DELETE", [], 412),
        ("GET", [TUS], 405),
        ("PUT", [TUS], 405),
        ("POST", [TUS], 405),
    ],
)
def test_requests_that_make_no_sense(
    url: str, store: MemoryStore, method: str, lines: list[str], status: int
) -> None:
    path = begin(url, 10)
    body = b"x" if method == "PATCH" and "Content-Length: 11" not in lines else b""
    if body:
        lines = [*lines, "Expect: 100-continue"] if status == 403 else lines
    answer = ask(url, method, path, *lines, body=body)
    assert answer.status == status
    if method != "HEAD":
        assert answer.problem["status"] == status
    assert status == 403 or answer.headers["Tus-Resumable"] == "1.0.0"
    assert ("Tus-Version" in answer.headers) == (status == 412)
    assert offset_of(url, path) == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Upload-Length: 5", named()], 412),
        ([TUS, named()], 400),
        ([TUS, "Upload-Length: x", named()], 400),
        ([TUS, "Upload-Length: -1", named()], 400),
        ([TUS, "Upload-Length: 5"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata:"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: key"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: key ?"], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: key YQ==,,b YQ=="], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: key YQ==,key YQ=="], 400),
        ([TUS, "Upload-Length: 5", "Upload-Metadata: filename YQ=="], 400),
        ([TUS, "Upload-Length: 5", named(value="nonsense")], 400),
        ([TUS, "Upload-Length: 5", named(value="[]")], 400),
        ([TUS, "Upload-Length: 5", named(value='{"other": 1}')], 400),
        ([TUS, "Upload-Length: 5", named(value='{"metadata": []}')], 400),
        ([TUS, "Upload-Length: 5", named(value='{"permissions": {}}')], 400),
        ([TUS, "Upload-Length: 5", named(value='{"digest": "md5:1"}')], 400),
        ([TUS, "Upload-Length: 5", named(value=b"\xff")], 400),
        ([TUS, "Upload-Length: 5", named(filetype="a\nb")], 400),
        ([TUS, "Upload-Length: 5", named(), "If-Match: nonsense"], 400),
        ([TUS, "Upload-Length: 5", named(), 'If-Match: "other"'], 412),
        ([TUS, "Upload-Length: 5", named("there"), "If-None-Match: *"], 412),
        ([TUS, "Upload-Length: 5", named(), "Content-Length: 3"], 415),
        ([TUS, "Upload-Length: 5", named(), "Content-Length: 6", PART], 413),
        ([TUS, f"Upload-Length: {(5 << 30) + 1}", named()], 413),
        ([TUS, "Upload-Length: 5", "Upload-Defer-Length: 1", named()], 400),
        ([TUS, "Upload-Length: 5", "Upload-Concat: partial", named()], 400),
        ([TUS, "Upload-Length: 5", named(), "Origin: null"], 403),
    ],
)
def test_uploads_that_make_no_sense(store: MemoryStore, lines: list[str], status: int) -> None:
    store.set("there", b"x")
    app = create_app(store)
    with running(app) as url:
        answer = ask(url, "POST", "/uploads", *lines)
        assert answer.problem["status"] == status
        assert "Location" not in answer.headers
        assert len(app.site.partials) == 0


@pytest.mark.parametrize(
    "name",
    [
        *("x", "x" * 32, "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "x%00", "", ".json", "a/b"),
        *("{}.json", "%7B%7D", "{}%2f..%2f{}", "{}/", "{}%00"),
    ],
)
def test_names_that_are_none(url: str, store: MemoryStore, name: str) -> None:
    path = begin(url, 10)
    wrong = "/uploads/" + name.replace("{}", path.rpartition("/")[2])
    assert ask(url, "HEAD", wrong, TUS).status == 404
    assert patch(url, wrong, 0, b"x").status == 404
    assert ask(url, "DELETE", wrong, TUS).status == 404
    assert offset_of(url, path) == 0


def test_termination(journaled: Served) -> None:
    store, url = journaled
    path = begin(url, 10)
    assert patch(url, path, 0, b"01234").status == 204
    answer = ask(url, "DELETE", path, TUS)
    assert (answer.status, answer.headers["Tus-Resumable"]) == (204, "1.0.0")
    for other in (head(url, path), patch(url, path, 5, b"56789"), ask(url, "DELETE", path, TUS)):
        assert other.status == 404
        assert other.headers["Tus-Resumable"] == "1.0.0"
    path = begin(url, 1)
    assert patch(url, path, 0, b"x").status == 204
    assert ask(url, "DELETE", path, TUS).status == 204
    assert store.to_bytes("a") == b"x"


def test_methods_that_a_firewall_does_not_let_through(url: str, store: MemoryStore) -> None:
    path = begin(url, 5)
    lines = (TUS, PART, "Upload-Offset: 0", "X-HTTP-Method-Override: PATCH")
    assert ask(url, "POST", path, *lines, body=b"hello").status == 204
    assert store.to_bytes("a") == b"hello"
    assert ask(url, "POST", path, TUS, "X-HTTP-Method-Override: DELETE").status == 204
    assert head(url, path).status == 404
    # It is of this protocol only, and cannot make a read of a write.
    assert ask(url, "POST", "/keys/a/data", "X-HTTP-Method-Override: DELETE").status == 405
    assert ask(url, "GET", path, TUS, "X-HTTP-Method-Override: DELETE").status == 405
