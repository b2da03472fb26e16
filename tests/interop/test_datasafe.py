"""The profile for the LabInform datasafe, against the real server."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvstore
from kvstore import (
    ConflictError,
    DynamicURLStore,
    IntegrityError,
    InvalidKeyError,
    KeyNotFoundError,
    TransportError,
    UnsupportedOperationError,
)
from tests.interop.peers import DATASAFE, installed, running

pytestmark = pytest.mark.timeout(400)

FAMILY = "42.1001/ds/exp/sa/42/cwepr"
INFO = b"cwEPR Info file - v. 0.1.4 (2020-01-21)\n"

MANIFEST = """\
format: {{type: datasafe dataset manifest, version: 0.1.0}}
dataset: {{loi: {loi}, complete: false}}
files:
  metadata:
  - {{name: run.info, format: cwEPR Info file, version: 0.1.4}}
  data: {{format: undetected, names: [run.dat]}}
checksums:
- {{name: CHECKSUM, format: MD5 checksum, span: 'data, metadata', value: '{whole}'}}
- {{name: CHECKSUM_data, format: MD5 checksum, span: data, value: '{data}'}}
"""


def dataset(loi: str, data: bytes, *, stored: bytes | None = None) -> bytes:
    """A ZIP archive with a manifest for *data*; *stored* is what is in there instead."""
    sums = [hashlib.md5(content).hexdigest() for content in (data, INFO)]
    whole = hashlib.md5("".join(sorted(sums)).encode()).hexdigest()
    alone = hashlib.md5(sums[0].encode()).hexdigest()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("run.info", INFO)
        files.writestr("run.dat", data if stored is None else stored)
        files.writestr("MANIFEST.yaml", MANIFEST.format(loi=loi, whole=whole, data=alone))
    return archive.getvalue()


def data_in(archive: bytes) -> bytes:
    return zipfile.ZipFile(io.BytesIO(archive)).read("run.dat")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    programs = installed("datasafe", DATASAFE)
    folder = tmp_path_factory.mktemp("datasafe")
    (folder / "datasafe_root").mkdir()
    command = [programs / "python", Path(__file__).with_name("datasafe_server.py")]
    env = {"TMPDIR": str(folder), "PYTHONWARNINGS": "ignore"}
    with running(command, r"serving at (http://\S+)", cwd=folder, env=env) as match:
        yield match[1]


@pytest.fixture
def store(url: str) -> Iterator[DynamicURLStore]:
    with kvstore.open(url, profile="datasafe") as store:
        assert isinstance(store, DynamicURLStore)
        yield store


def test_the_server_assigns_the_key(store):
    first, second = store.reserve(FAMILY), store.reserve(FAMILY)
    assert first.startswith(f"{FAMILY}/")
    assert first != second
    with pytest.raises(InvalidKeyError):
        store.reserve("42.1001/nothing")


def test_a_key_that_is_reserved_is_there_and_empty(store):
    key = store.reserve(FAMILY)
    assert store.exists(key)
    assert store.record(key).size == 0
    assert store.to_bytes(key) == b""
    assert store.get_data_range(key, 0, 5).read() == b""


def test_data_are_set_and_replaced(store):
    key = store.reserve(FAMILY)
    store.set(key, dataset(key, b"first"))
    assert data_in(store.to_bytes(key)) == b"first"
    value = store.get(key)
    assert value.size == len(value.read())
    assert value.mimetype == "application/zip"
    store.set_data(key, iter([dataset(key, b"second")]))
    assert data_in(store.to_bytes(key)) == b"second"
    assert store.get_data_range(key, 0, 2).read() == b"PK"


def test_create_only_does_not_overwrite(store):
    key = store.reserve(FAMILY)
    store.set(key, dataset(key, b"first"), if_none_match="*")
    with pytest.raises(ConflictError):
        store.set(key, dataset(key, b"second"), if_none_match="*")
    assert data_in(store.to_bytes(key)) == b"first"


def test_data_that_do_not_fit_their_checksums_are_an_error(store):
    key = store.reserve(FAMILY)
    with pytest.raises(IntegrityError, match="checksums") as caught:
        store.set(key, dataset(key, b"right", stored=b"wrong"))
    assert caught.value.key == key
    store.set(key, dataset(key, b"right"))
    assert data_in(store.to_bytes(key)) == b"right"
    with pytest.raises(IntegrityError, match="checksums"):
        store.set(key, dataset(key, b"right", stored=b"wrong"))


def test_missing_keys_are_told_from_wrong_ones(store):
    absent = f"{FAMILY}/99999"
    assert not store.exists(absent)
    for call in (store.get, store.record, lambda key: store.set(key, dataset(key, b""))):
        with pytest.raises(KeyNotFoundError):
            call(absent)
    for wrong in ("42.1001/ds/foo/1", "42.1001/ds/exp/sa/42/other/1"):
        with pytest.raises(InvalidKeyError, match="not a valid LOI"):
            store.get(wrong)
    for wrong in ("a", "43.1/ds/1", f"{FAMILY}//1", f"{FAMILY}/1/"):
        with pytest.raises(InvalidKeyError, match="datasafe"):
            store.get(wrong)


def test_an_archive_that_is_none_is_an_error(store):
    key = store.reserve(FAMILY)
    with pytest.raises(TransportError, match="500"):
        store.set(key, b"no archive")


def test_what_the_protocol_has_no_means_for(store):
    key = store.reserve(FAMILY)
    for call in (
        lambda: store.delete(key),
        lambda: store.set(key, b"", metadata={"n": 1}),
        lambda: store.set_metadata(key, {"n": 1}),
        lambda: list(store.query_keys()),
        lambda: store.get_permissions(key),
        lambda: store.set(key, b"", if_match="1"),
    ):
        with pytest.raises(UnsupportedOperationError, match="datasafe"):
            call()
    assert store.get_metadata(key) == {}


def test_it_is_found_out(store):
    store.probe()
