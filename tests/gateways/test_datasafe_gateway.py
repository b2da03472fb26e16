"""The datasafe as its clients meet it: identifiers, statuses, words, archives."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kvstore
from kvstore import MemoryStore, SQLiteStore
from kvstore.errors import StorageFullError
from kvstore.gateways.datasafe import DatasafeGateway, uploads
from kvstore.manifest import Manifest
from kvstore.server import serve_background
from kvstore.server.limits import Limits
from tests import corpora
from tests.gateways.datasets import FAMILY, FILES, INFO, Safe, archive, manifest_of, unpacked
from tests.server.access import lab_of
from tests.server.sockets import ask

OTHER = "42.1001/ds/exp/2026-11-26/trepr"


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Safe]:
    store = SQLiteStore(tmp_path_factory.mktemp("safe"))
    limits = Limits(data=8 << 20)
    with store, serve_background(store, gateways=[DatasafeGateway()], limits=limits) as url:
        yield Safe(url, store)


def test_it_says_that_it_is_alive(safe):
    for path in ("/heartbeat", "/api/", "/api"):
        answer = ask(safe.url, "GET", f"/datasafe{path}")
        assert (answer.status, answer.body) == (200, b"alive")
        assert ask(safe.url, "HEAD", f"/datasafe{path}").headers["Content-Length"] == "5"
        assert ask(safe.url, "POST", f"/datasafe{path}").status == 405
        assert ask(safe.url, "OPTIONS", f"/datasafe{path}").headers["Allow"] == "GET, HEAD, OPTIONS"
    for path in ("", "/", "/other", "/apis", "/heartbeat/"):
        assert ask(safe.url, "GET", f"/datasafe{path}").status == 404


def test_what_is_no_identifier_is_refused_in_the_words_that_clients_look_for(safe):
    good = f"{FAMILY}/1"
    bad = [
        *("", "42", "42.1001", "42.1001/ds", "42.1001/rec/1", "42.1001/img", "43.1/ds/calc/geo/1"),
        *("42./ds/calc/geo/1", "42.abc/ds/calc/geo/1", "42.1.2/ds/calc/geo/1", "a", f"x{good}"),
        *("42.1/ds/exp/xx/42/cwepr/1", "42.1/ds/exp/sa/x/cwepr/1", "42.1/ds/exp/sa/42/nmr/1"),
        *("42.1001/ds/exp/2026-19-39/cwepr/1", "42.1001/ds/exp/2026-02-30/cwepr/1"),
        *("42.1001/ds/exp/2026-2-3/cwepr/1", "42.1001/ds/calc/geo", "42.1001/ds/calc/else/1"),
        *(f"{good}/extra", f"{good}/", f"{good}//", f"{good}/../../x", f"{good}%2F..%2Fx"),
        *(f"{good}%0A", f"{good}/../../../../../../victim", f"{FAMILY}/01", f"{FAMILY}/-1"),
        *(f"{FAMILY}/1.5", f"{FAMILY}/%D9%A1", f"{FAMILY}/{10**18}", FAMILY, f"{good}%00"),
    ]  # fmt: skip
    before = safe.keys()
    for path in bad:
        for method in ("GET", "PUT", "PATCH"):
            answer = safe.ask(method, path or "%20", body=b"x" if method != "GET" else b"")
            assert (answer.status, answer.body) == (404, b"String is not a valid LOI."), path
        assert safe.ask("HEAD", path or "%20").status == 404
    assert safe.keys() == before


def test_new_numbers_are_those_of_a_family(safe):
    assert [safe.new(OTHER) for _ in range(3)] == [f"{OTHER}/{n}" for n in (1, 2, 3)]
    assert safe.new(f"{OTHER}/") == f"{OTHER}/4"
    assert safe.new(f"{OTHER}/99") == f"{OTHER}/5"  # the original gives the next one, too
    # Each issuer has numbers of its own, and sees nothing of those of others.
    theirs = OTHER.replace("1001", "7777")
    assert safe.new(theirs) == f"{theirs}/1"
    assert safe.ask("GET", f"{theirs}/2").status == 404
    assert safe.store.get_metadata(f"{OTHER}/5") == {"datasafe": {"loi": f"{OTHER}/5", "number": 5}}
    for path in ("42.1001/ds/calc/geo", "42.1001/ds/calc/result/1"):
        answer = safe.ask("POST", path)
        assert (answer.status, answer.body) == (404, b"Loi ist not a valid experiment LOI.")
    for path in ("42.1001/ds/exp/sa/42", "42.1001/ds/exp/2026-13-01/cwepr", f"{OTHER}/1/2"):
        answer = safe.ask("POST", path)
        assert (answer.status, answer.body) == (404, b"String is not a valid LOI.")


def test_numbers_that_others_have_taken_are_passed_by(safe):
    family = FAMILY.replace("42/cwepr", "43/cwepr")
    safe.store.set_data(f"{family}/7/made by hand.txt", b"")
    safe.store.set_data(f"{family}/no number/x", b"")
    assert safe.new(family) == f"{family}/8"
    safe.store.set_data(f"{family}/9/x", b"")  # which the search for the highest does not see
    assert safe.new(family) == f"{family}/10"
    safe.store.set_data(f"{family}/11/x", b"")
    safe.store.delete(f"{family}/10")
    safe.store.set(f"{family}/10", b"", metadata={"datasafe": {"number": "ten"}})
    assert safe.new(family) == f"{family}/12"
    safe.store.set(f"{family}/x", b"", metadata={"datasafe": {"number": 10**17}})
    assert safe.new(family) == f"{family}/13"
    safe.store.set_data(f"{family}/{10**18 - 1}", b"")
    assert safe.ask("POST", family).status == 507


def test_64_that_ask_at_once_get_64_numbers(safe):
    family = FAMILY.replace("42/cwepr", "64/cwepr")
    gate = threading.Barrier(64)

    def mint(_):
        gate.wait()
        return safe.new(family)

    with ThreadPoolExecutor(64) as pool:
        given = list(pool.map(mint, range(64)))
    assert sorted(given) == sorted(f"{family}/{number}" for number in range(1, 65))


def test_many_who_upload_at_once_do_not_disturb_each_other(safe):
    lois = [safe.new() for _ in range(24)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda loi: safe.put(loi, {loi.rpartition("/")[2]: loi.encode()}), lois))
    for loi in lois:
        assert safe.files(loi) == {loi.rpartition("/")[2]: loi.encode()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files in /proc")
def test_nothing_is_left_open_or_lying_about(safe, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loi = safe.put(safe.new(), {**FILES, "large.dat": os.urandom(2 << 20)})
    good = archive({"large.dat": os.urandom(2 << 20)})
    bad = archive({"large.dat": os.urandom(2 << 20)}, manifest_of(FILES))

    def go_through() -> int:
        for _ in range(4):
            assert safe.ask("GET", loi).status == 200
            assert safe.ask("PATCH", loi, body=bad).status == 422
            assert safe.ask("PATCH", loi, body=good[:-9]).status == 400
            assert safe.ask("PATCH", loi, body=good).status == 200
            assert safe.ask("PUT", loi, body=good).status == 405
        return len(list(Path("/proc/self/fd").iterdir()))

    before = go_through()
    for _ in range(2):
        assert go_through() <= before + 3  # threads of the server come and go
    assert list(tmp_path.iterdir()) == []


def with_manifest(data: bytes) -> bytes | None:
    """A nasty archive with a manifest that says too little; None where it cannot be added."""
    target = io.BytesIO(data)
    try:
        with zipfile.ZipFile(target, "a") as added:
            added.writestr("MANIFEST.yaml", manifest_of({"none": b""}).to_yaml())
    except (UnicodeDecodeError, struct.error):
        return None
    return target.getvalue()


def test_no_nasty_archive_stores_anything(safe):
    loi = safe.new()
    nasty = [case for case in corpora.entries("nasty_zips") if case["expect"] == "refuse"]
    looked_into = set()
    for case in nasty:
        answer = safe.ask("PUT", loi, body=corpora.raw(case))
        assert answer.status in (400, 413), case["id"]
        assert b"Traceback" not in answer.body
        # Nor is it for want of a manifest. One with a wrong end gets a new one by that.
        if (body := with_manifest(corpora.raw(case))) is not None:
            answer = safe.ask("PUT", loi, body=body)
            assert answer.status in (400, 413, 422), case["id"]
            assert b"has no MANIFEST" not in answer.body, case["id"]
            if answer.status != 422:
                looked_into.add(case["id"])
    assert safe.keys(loi) == [loi]
    assert len(looked_into) > 30
    assert looked_into >= {"name-00", "symlink-abs", "dup-names", "bomb-overlap", "bad-crc"}
    assert "local-central-name" in looked_into


def test_the_statuses_of_a_dataset_from_its_reservation_on(safe):
    loi = safe.new()
    content = archive(FILES)
    for method in ("GET", "HEAD"):
        answer = safe.ask(method, loi)
        assert (answer.status, answer.body) == (204, b"")
    answer = safe.ask("PATCH", loi, body=content)
    assert (answer.status, answer.body) == (405, b"Directory empty")
    assert answer.headers["Allow"] == "PUT"
    answer = safe.ask("PUT", loi)
    assert (answer.status, answer.body) == (400, b"No content provided to deposit.")
    safe.put(loi)
    answer = safe.ask("PUT", loi, body=content)
    assert (answer.status, answer.body) == (405, b"Directory not empty.")
    assert answer.headers["Allow"] == "PATCH"
    assert safe.files(loi) == FILES
    answer = safe.ask("PATCH", loi)
    assert (answer.status, answer.body) == (400, b"No content provided to deposit.")
    assert safe.files(loi) == FILES
    new = {"run.dat": b"new", "more.dat": b"more"}
    answer = safe.ask("PATCH", loi, body=archive(new))
    assert (answer.status, answer.body) == (200, b'{"data":true,"all":true}')
    assert safe.files(loi) == new
    assert safe.ask("DELETE", loi).status == 405
    assert safe.ask("OPTIONS", loi).headers["Allow"] == "GET, HEAD, POST, PUT, PATCH, OPTIONS"


def test_what_does_not_exist(safe):
    absent = f"{FAMILY}/99999"
    answer = safe.ask("GET", absent)
    assert (answer.status, answer.body) == (404, b"LOI does not exist.")
    assert safe.ask("HEAD", absent).status == 404
    for method in ("PUT", "PATCH"):
        for loi in (absent, "42.1001/ds/calc/geo/1"):
            answer = safe.ask(method, loi, body=archive(FILES))
            assert (answer.status, answer.body) == (400, b"LOI does not exist.")
    assert safe.keys(absent) == []


def test_files_are_keys_like_all_others(safe):
    loi = safe.put(safe.new(), {"a.txt": b"a", "sub/deep/b.csv": b"1,2\n", **FILES})
    names = ["MANIFEST.yaml", "a.txt", "run.dat", "run.info", "sub/deep/b.csv"]
    assert safe.keys(loi) == [loi, *(f"{loi}/{name}" for name in names)]
    value = safe.store.get(f"{loi}/sub/deep/b.csv")
    assert (value.read(), value.mimetype) == (b"1,2\n", "text/csv")
    assert value.metadata == {"datasafe": {"loi": loi, "role": "data"}}
    with kvstore.open(safe.url) as store:
        assert store.to_bytes(f"{loi}/a.txt") == b"a"
        found = store.query_keys(where={"datasafe.loi": loi, "datasafe.role": "metadata"})
        assert list(found) == [f"{loi}/run.info"]
        # What another client changes, adds and removes is what the next download has.
        store.set_data(f"{loi}/a.txt", b"changed")
        store.set_data(f"{loi}/added.txt", b"added")
        store.delete(f"{loi}/run.dat")
    expected = {"a.txt": b"changed", "added.txt": b"added", "run.info": INFO}
    assert safe.files(loi) == {**expected, "sub/deep/b.csv": b"1,2\n"}
    for key in safe.keys(f"{loi}/"):
        safe.store.delete(key)
    assert safe.ask("GET", loi).status == 204


def test_a_dataset_that_was_never_reserved_is_one(safe):
    loi = f"{FAMILY}/777"
    safe.store.set_data(f"{loi}/run.dat", b"from elsewhere")
    assert safe.files(loi) == {"run.dat": b"from elsewhere"}
    assert safe.ask("PUT", loi, body=archive(FILES)).status == 405
    safe.store.set_data(f"{loi}/run.dat", FILES["run.dat"])
    before = safe.store.get(f"{loi}/run.dat")
    assert safe.ask("PATCH", loi, body=archive(FILES)).status == 200
    assert safe.files(loi) == FILES
    # Bytes that are there already stay, and what is said of them is added.
    after = safe.store.get(f"{loi}/run.dat")
    assert before.metadata == {}
    assert after.metadata == {"datasafe": {"loi": loi, "role": "data"}}
    assert safe.store.get_metadata(loi) == {"datasafe": {"loi": loi, "number": 777}}


def test_folders_are_kept(safe):
    files = {"a.dat": b"upper", "sub/a.dat": b"lower", "sub/empty/": b"", "bare/": b""}
    loi = safe.put(safe.new(), files)
    assert safe.files(loi) == files
    # A folder may be named as if it were a file, and counts as nothing then.
    named = Manifest(**{**manifest_parts(files), "data": ("a.dat", "bare", "sub")})
    answer = safe.ask("PATCH", loi, body=archive(files, named))
    assert answer.status == 422
    only = manifest_of({"a.dat": b"upper"})
    named = Manifest(**{**manifest_parts({"a.dat": b"upper"}), "data": ("a.dat", "bare", "sub")})
    assert only.checksum == named.checksum
    assert safe.ask("PATCH", loi, body=archive(files, named)).status == 200
    assert safe.ask("PATCH", loi, body=archive({"a.dat": b""})).status == 200
    assert safe.files(loi) == {"a.dat": b""}


def manifest_parts(files):
    manifest = manifest_of(files)
    return {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}


def test_a_dataset_that_does_not_fit_its_manifest_is_not_stored(safe):
    loi = safe.new()
    right = manifest_of(FILES)
    cases = [
        ({**FILES, "run.dat": b"other"}, {"data": False, "differing": ["run.dat"]}),
        ({**FILES, "run.info": b"other"}, {"data": True, "differing": ["run.info"]}),
        ({"run.info": INFO}, {"data": False, "missing": ["run.dat"]}),
        ({"run.dat": FILES["run.dat"]}, {"data": True, "missing": ["run.info"]}),
    ]
    for files, told in cases:
        answer = safe.ask("PUT", loi, body=archive(files, right))
        assert answer.status == 422
        assert json.loads(answer.body) == {"all": False, **told}
        assert safe.ask("GET", loi).status == 204
    assert safe.keys(loi) == [loi]
    safe.put(loi)  # and can be stored all the same
    before = safe.files(loi)
    for files, told in cases:
        answer = safe.ask("PATCH", loi, body=archive(files, right))
        assert (answer.status, json.loads(answer.body)) == (422, {"all": False, **told})
        assert safe.files(loi) == before


def test_what_is_in_no_manifest_is_kept_all_the_same(safe):
    loi = safe.new()
    files = {**FILES, "notes.txt": b"by hand"}
    answer = safe.ask("PUT", loi, body=archive(files, manifest_of(FILES)))
    assert (answer.status, answer.body) == (200, b'{"data":true,"all":true}')
    assert safe.files(loi) == files


def test_a_dataset_needs_no_metadata(safe):
    assert safe.files(safe.put(safe.new(), {"x.dat": b""})) == {"x.dat": b""}


def test_uploads_without_a_usable_manifest_leave_everything_as_it_was(safe):
    loi = safe.new()
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as target:
        target.writestr("run.dat", b"x")
    good = archive(FILES)
    manifests = [b"a: b", b"\xff", b"x" * (5 << 20)]
    bad = [plain.getvalue(), b"no archive", good[:-1], good + b"x"]
    bad += [archive(FILES, manifest) for manifest in manifests]
    for body in bad:
        answer = safe.ask("PUT", loi, body=body)
        assert answer.status == 400
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert b"LOI does not exist" not in answer.body
    assert safe.keys(loi) == [loi]
    safe.put(loi)
    for body in bad:
        assert safe.ask("PATCH", loi, body=body).status == 400
        assert safe.files(loi) == FILES


def test_too_much_is_refused(safe):
    loi = safe.new()
    answer = safe.ask("PUT", loi, body=b"x" * ((8 << 20) + 1))
    assert answer.status == 413
    packed = archive({"zeros": bytes(9 << 20)}, compresslevel=9)
    answer = safe.ask("PUT", loi, body=packed)
    assert (answer.status, answer.body) == (413, answer.body)
    assert b"at most 8388608 bytes" in answer.body
    assert safe.ask("GET", loi).status == 204


def test_a_full_disk_is_told_as_one():
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(self.errno, "full")

    spool = Full()
    for number, kind in ((errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError)):
        spool.errno = number
        with pytest.raises(kind):
            uploads._spool([b"x"], spool)
    spool.errno = errno.EIO
    with pytest.raises(OSError, match="full"):
        uploads._spool([b"x"], spool)


def test_bodies_come_as_any_client_sends_them(safe):
    loi = safe.new()
    body = archive(FILES)
    # What curl says of any data.
    form = "Content-Type: application/x-www-form-urlencoded"
    assert safe.ask("PUT", loi, form, body=body).status == 200
    wrong = "Content-Digest: sha-256=:" + "A" * 43 + "=:"
    assert safe.ask("PATCH", loi, wrong, body=body).status == 400
    assert safe.ask("PATCH", loi, "Content-Encoding: gzip", body=body).status == 415
    assert safe.files(loi) == FILES


def test_head_tells_the_size_and_makes_no_archive(safe):
    files = {"ü/ä.dat": b"x" * 1000, "b" * 200: b"", **FILES}
    loi = safe.put(safe.new(), files)
    got, told = safe.ask("GET", loi), safe.ask("HEAD", loi)
    assert told.headers["Content-Length"] == str(len(got.body)) == got.headers["Content-Length"]
    assert told.headers["Content-Type"] == "application/zip"
    assert told.body == b""
    assert unpacked(got) == files


def test_conditional_requests(safe):
    loi = safe.new()
    assert safe.ask("PUT", loi, 'If-Match: "x"', body=archive(FILES)).status == 412
    assert safe.ask("PUT", loi, "If-None-Match: *", body=archive(FILES)).status == 200
    first = safe.ask("GET", loi).headers["ETag"]
    assert first == safe.ask("HEAD", loi).headers["ETag"]
    for method in ("GET", "HEAD"):
        answer = safe.ask(method, loi, f"If-None-Match: {first}")
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", first)
    assert safe.ask("GET", loi, 'If-Match: "x"').status == 412
    assert safe.ask("PATCH", loi, 'If-Match: "x"', body=archive({"a": b""})).status == 412
    assert safe.files(loi) == FILES
    assert safe.ask("PATCH", loi, f"If-Match: {first}", body=archive({"a": b""})).status == 200
    assert safe.ask("PATCH", loi, f"If-Match: {first}", body=archive({"b": b""})).status == 412
    answer = safe.ask("GET", loi, f"If-None-Match: {first}")
    assert unpacked(answer) == {"a": b""}
    second = answer.headers["ETag"]
    safe.store.set_data(f"{loi}/a", b"by another client")
    assert safe.ask("GET", loi, f"If-None-Match: {second}").status == 200


def test_metadata_and_permissions_that_others_have_given_stay(safe):
    loi = safe.put(safe.new())
    safe.store.update_metadata(loi, {"project": "x"})
    safe.store.update_metadata(f"{loi}/run.dat", {"seen": True})
    safe.store.update_permissions(f"{loi}/run.dat", {"read": {"public"}})
    before = safe.store.get(f"{loi}/run.info").revision
    assert safe.ask("PATCH", loi, body=archive({**FILES, "run.dat": b"new"})).status == 200
    assert safe.store.get_metadata(loi)["project"] == "x"
    assert safe.store.get_metadata(f"{loi}/run.dat")["seen"] is True
    assert safe.store.get_permissions(f"{loi}/run.dat")["read"] == {"public"}
    assert safe.store.get(f"{loi}/run.info").revision == before  # the same bytes are not written


def test_errors_tell_no_paths_and_no_traces(safe):
    loi = safe.new()
    answers = [safe.ask("PUT", loi, body=b"x"), safe.ask("GET", f"{loi}9"), safe.ask("GET", "%ff")]
    for answer in answers:
        assert b"Traceback" not in answer.body
        assert b"/" not in answer.body.replace(b"//", b"")


def test_permissions_hold(tmp_path):
    store = SQLiteStore(tmp_path / "store")
    with lab_of(store, tmp_path, gateways=[DatasafeGateway()]) as lab:

        def call(who, method, path, body=b""):
            return lab.ask(who, method, f"/datasafe/api/{path}", body=body)

        assert call(None, "POST", FAMILY).status == 401
        assert call(None, "GET", f"{FAMILY}/1").status == 401
        mine = call("ada", "POST", FAMILY).body.decode()
        assert mine == f"{FAMILY}/1"
        assert call("ada", "PUT", mine, archive(FILES)).status == 200
        assert store.get_permissions(f"{mine}/run.dat") == {"owned": {"ada"}}
        # Nobody else sees it, and its number is not given again.
        answer = call("bob", "GET", mine)
        assert (answer.status, answer.body) == (404, b"LOI does not exist.")
        assert call("bob", "PATCH", mine, archive(FILES)).status == 400
        assert call("bob", "POST", FAMILY).body.decode() == f"{FAMILY}/2"
        for key in store.query_keys(prefix=mine):
            store.update_permissions(key, {"read": {"bob"}})
        assert unpacked(call("bob", "GET", mine)) == FILES
        answer = call("bob", "PATCH", mine, archive({"x": b""}))
        assert answer.status == 403
        assert unpacked(call("ada", "GET", mine)) == FILES
        lab.token("eve", scopes=["read"])
        assert call("eve", "POST", FAMILY).status == 403


def test_many_hidden_numbers_are_passed_by_soon(tmp_path):
    store = MemoryStore()
    with lab_of(store, tmp_path, gateways=[DatasafeGateway()]) as lab:
        for number in range(1, 400):
            store.set_data(f"{FAMILY}/{number}", b"")
        loi = lab.ask("bob", "POST", f"/datasafe/api/{FAMILY}").body.decode()
        number = int(loi.rpartition("/")[2])
        assert 400 <= number < 1000


def test_a_store_that_can_only_be_read_gives_out(tmp_path):
    store = MemoryStore()
    store.connect()
    store.set_data(f"{FAMILY}/1/run.dat", b"old")
    with serve_background(kvstore.ReadOnly(store), gateways=[DatasafeGateway()]) as url:
        safe = Safe(url, store)
        assert safe.files(f"{FAMILY}/1") == {"run.dat": b"old"}
        for method, path in (("POST", FAMILY), ("PATCH", f"{FAMILY}/1")):
            assert safe.ask(method, path, body=b"x").status == 501
