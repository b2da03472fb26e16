"""The client of labinform-datasafe 0.1.0b1 as it comes from PyPI, against the gateway."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import kvstore
from benchmarks import bench_datasafe
from kvstore import DynamicURLStore, IntegrityError, MemoryStore, SQLiteStore
from kvstore.errors import ConflictError, InvalidKeyError, InvalidRequestError, KeyNotFoundError
from kvstore.gateways.datasafe import DatasafeGateway
from kvstore.manifest import FolderFiles, StoreFiles, build, read, verify, write
from kvstore.server import serve_background
from tests.gateways.datasets import FAMILY, FILES, INFO, Safe, archive, manifest_of
from tests.interop.peers import DATASAFE, installed
from tests.server.access import lab_of

pytestmark = pytest.mark.timeout(400)

#: Runs in the environment of the client. Each line on standard input is a call: the name of a
#: method and its arguments; each line on standard output what it returned or raised.
CALLS = """
import json, sys, warnings
from datasafe.client import HTTPClient
from datasafe.manifest import Manifest
client = HTTPClient()
client.server_url = sys.argv[1]
for line in sys.stdin:
    name, arguments = json.loads(line)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = {"result": getattr(client, name)(**arguments)}
        except Exception as error:
            result = {"error": type(error).__name__, "said": str(getattr(error, "message", error))}
    result["warned"] = [str(each.message) for each in told if each.category is UserWarning]
    print(json.dumps(result), flush=True)
"""

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Safe]:
    store = SQLiteStore(tmp_path_factory.mktemp("safe"))
    with store, serve_background(store, gateways=[DatasafeGateway()]) as url:
        yield Safe(url, store)


@contextlib.contextmanager
def calling(url: str, folder: Path) -> Iterator[Call]:
    """Calls a method of the client; gives what it returns, or its error and what that says."""
    python = installed("datasafe", DATASAFE) / "python"
    with subprocess.Popen(
        [python, "-c", CALLS, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONWARNINGS": "ignore", "TMPDIR": str(folder), "no_proxy": "127.0.0.1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def call(name: str, *, warns: Sequence[str] = (), **arguments: Any) -> Any:
            process.stdin.write(json.dumps([name, arguments]) + "\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            assert told.pop("warned") == list(warns), told
            return told["result"] if "result" in told else (told["error"], told["said"])

        yield call
        process.stdin.close()


@pytest.fixture(scope="module")
def client(safe: Safe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    with calling(f"{safe.url}/datasafe/", tmp_path_factory.mktemp("client")) as call:
        yield call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a dataset."""
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def files_in(folder: str | Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name not in ("MANIFEST.yaml", "dataset.zip")
    }


WHOLE = {"data": True, "all": True}


def test_the_life_of_a_dataset(safe, client, folder):
    loi = client("create", loi=FAMILY)
    assert loi.startswith(f"{FAMILY}/")
    assert client("download", loi=loi)[0] == "MissingContentError"
    assert client("update", loi=loi, path=str(folder)) == ("NoFileError", "Directory empty")
    assert client("create_manifest", path=str(folder)) is None
    assert client("upload", loi=loi, path=str(folder)) == WHOLE
    assert files_in(client("download", loi=loi)) == FILES
    assert client("upload", loi=loi, path=str(folder)) == (
        "ExistingFileError",
        "Directory not empty.",
    )
    (folder / "run.dat").write_bytes(b"new")
    assert client("update", loi=loi, path=str(folder)) == WHOLE
    assert files_in(client("download", loi=loi)) == {**FILES, "run.dat": b"new"}
    stored = read(StoreFiles(safe.store, loi))
    assert stored.loi == loi
    assert verify(StoreFiles(safe.store, loi))


def test_its_errors_are_its_own(client, folder):
    absent = f"{FAMILY}/99999"
    missing = ("LoiNotFoundError", "LOI does not exist.")
    assert client("download", loi=absent) == missing
    assert client("upload", loi=absent, path=str(folder)) == missing
    assert client("update", loi=absent, path=str(folder)) == missing
    wrong = ("InvalidLoiError", "String is not a valid LOI.")
    for loi in (f"{FAMILY}/1/extra", "42.1001/ds/exp/2026-02-30/cwepr/1", f"{FAMILY}/01"):
        assert client("download", loi=loi) == wrong
        assert client("upload", loi=loi, path=str(folder)) == wrong
        assert client("update", loi=loi, path=str(folder)) == wrong


def test_files_of_other_clients_are_seen_and_told_from_the_manifest(safe, client, folder):
    loi = client("create", loi="42.1001/ds/exp/2026-11-26/trepr")
    assert client("upload", loi=loi, path=str(folder)) == WHOLE
    with kvstore.open(safe.url) as store:
        store.set_data(f"{loi}/run.dat", b"changed")
    warns = ["Integrity check failed, data and metadata may be corrupted."]
    assert files_in(client("download", loi=loi, warns=warns))["run.dat"] == b"changed"


def test_folders_arrive_as_the_client_sends_them(client, folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.dat").write_bytes(b"deep")
    loi = client("create", loi=FAMILY)
    assert client("upload", loi=loi, path=str(folder)) == WHOLE
    # The client itself lays the files of folders beside the others.
    got = Path(client("download", loi=loi))
    assert files_in(got) == {**FILES, "deep.dat": b"deep"}
    assert (got / "sub").is_dir()


def test_manifests_of_ours_are_theirs(client, folder):
    write(FolderFiles(folder), build(FolderFiles(folder)))
    (folder / "run.info").unlink()
    (folder / "run.info").write_bytes(INFO)
    theirs = client("create", loi=FAMILY)
    ours = read(FolderFiles(folder))
    assert client("create_manifest", path=str(folder)) is None
    made = read(FolderFiles(folder))
    assert (made.checksum, made.data_checksum) == (ours.checksum, ours.data_checksum)
    assert (made.data, made.metadata) == (ours.data, ours.metadata)
    assert client("upload", loi=theirs, path=str(folder)) == WHOLE
    # A dataset that was stored with a manifest of ours is whole to them.
    both = client("create", loi=FAMILY)
    write(FolderFiles(folder), build(FolderFiles(folder), loi=both))
    assert files_in(client("download", loi=theirs)) == FILES


def test_a_dataset_without_metadata_is_whole_here(safe, client):
    loi = client("create", loi=FAMILY)
    safe.put(loi, {"x.dat": b"x"})
    # The client asks for metadata when it checks what it has got.
    assert client("download", loi=loi)[0] == "MissingInformationError"


def test_digests_beside_the_checksums_do_not_disturb_the_client(safe, client, folder):
    loi = client("create", loi=FAMILY)
    made = build(FolderFiles(folder), loi=loi)
    assert made.sha256["run.dat"] == hashlib.sha256(FILES["run.dat"]).hexdigest()
    assert safe.ask("PUT", loi, body=archive(FILES, made)).status == 200
    assert files_in(client("download", loi=loi)) == FILES


def test_a_token_is_the_password_in_its_address(tmp_path_factory, folder):
    beside = tmp_path_factory.mktemp("lab")
    with lab_of(MemoryStore(), beside, gateways=[DatasafeGateway()]) as lab:
        host = lab.url.removeprefix("http://")
        with calling(f"http://any:{lab.token('ada')}@{host}/datasafe/", beside) as client:
            loi = client("create", loi=FAMILY)
            assert client("upload", loi=loi, path=str(folder)) == WHOLE
            assert files_in(client("download", loi=loi)) == FILES
        assert lab.store.get_permissions(f"{loi}/run.dat") == {"owned": {"ada"}}


def test_the_profile_for_the_original_server_reaches_the_gateway(safe):
    with kvstore.open(f"{safe.url}/datasafe", profile="datasafe") as store:
        assert isinstance(store, DynamicURLStore)
        store.probe()
        key = store.reserve(FAMILY)
        assert store.record(key).size == 0
        store.set(key, archive(FILES), if_none_match="*")
        with pytest.raises(ConflictError):
            store.set(key, archive(FILES), if_none_match="*")
        assert safe.files(key) == FILES
        with pytest.raises(IntegrityError):
            store.set(key, archive({"run.dat": b"x"}, manifest_of(FILES)))
        assert safe.files(key) == FILES
        with pytest.raises(KeyNotFoundError):
            store.get(f"{FAMILY}/99999")
        with pytest.raises(InvalidKeyError, match="not a valid LOI"):
            store.get("42.1001/ds/exp/sa/42/other/1")
        with pytest.raises(InvalidRequestError):
            store.set(key, b"no archive")


@pytest.mark.slow
def test_it_is_measured_against_the_original():
    scale = bench_datasafe.Scale(size=1 << 20, rounds=1, seconds=0)
    for table in bench_datasafe.tables(scale):
        assert [row[:2] for row in table.body] == [
            (job, name)
            for job in ("upload", "download", "update")
            for name in ("datasafe", "kvstore")
        ]
