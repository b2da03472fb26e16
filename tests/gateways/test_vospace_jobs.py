"""Jobs over VOSpace 2.1 (UWS 1.1): moves, copies, transfers that last, and whole trees.

The letters beside cases say where they come from: S is the standard, P and C are the tests of
pyvospace and of opencadc/vos (cadc-test-vos), told as facts.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import StorageFullError
from kvstore.gateways.vospace import VospaceGateway
from kvstore.gateways.vospace.faults import SUMMARIES, Fault
from kvstore.gateways.vospace.jobs import Jobs
from kvstore.server import Settings, serve_background
from kvstore.store import Store
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.writes import Change, Written
from tests.cases import each, empty
from tests.gateways.vos_space import (
    IDENTIFIER,
    ROOT,
    UWS,
    Space,
    endpoints_in,
    message_of,
    node,
    path_in,
    phase_of,
    results_of,
    transfer,
    uri,
)
from tests.server.sockets import Wire


@pytest.fixture(scope="module", params=["memory", "sqlite", "folder"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, str]]:
    folder = tmp_path_factory.mktemp("store")
    stores: dict[str, Any] = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(folder / "store.db"),
        "folder": lambda: FileSystemStore(folder),
    }
    store = stores[request.param]()
    with serve_background(store, gateways=[VospaceGateway(IDENTIFIER)]) as url:
        yield store, url


@pytest.fixture
def store(served: tuple[Store, str]) -> Store:
    empty(served[0])
    return served[0]


@pytest.fixture
def space(served: tuple[Store, str], store: Store) -> Space:
    space = Space(served[1])
    space.make("lab/", "lab/run", "lab/in/", "lab/in/deep", "other/", "other/run")
    space.put("link", "LinkNode", target=uri("lab/run"))
    return space


@pytest.fixture(scope="module")
def plain() -> Iterator[Space]:
    """A space over memory, for what is the same over every store."""
    with serve_background(MemoryStore(), gateways=[VospaceGateway(IDENTIFIER)]) as url:
        space = Space(url)
        space.make("lab/", "lab/run")
        yield space


# -- from node to node (section 6.2.2, 6.2.3) ---------------------------------------------------


def _tree(store: Store, prefix: str) -> dict[str, tuple[bytes, Any]]:
    return {
        key.removeprefix(prefix): (store.to_bytes(key), store.get_metadata(key))
        for key in store.query_keys(prefix=prefix)
    }


@each("keeps, target", [("false", "moved"), ("true", "copied")])
def test_a_tree(space: Space, store: Store, keeps: str, target: str) -> None:
    space.post("lab/run", properties={"title": "first"})
    before = _tree(store, "lab/")
    assert len(before) == 4
    job = space.run("transfers", transfer("lab", target, keeps=keeps))  # 46, 57 P C
    assert phase_of(job) == "COMPLETED"
    assert results_of(job) == {"destination": uri(target)}
    assert _tree(store, f"{target}/") == before
    assert space.properties(f"{target}/run")["title"] == "first"
    assert _tree(store, "lab/") == (before if keeps == "true" else {})
    if keeps == "false":
        assert space.fault("GET", "/nodes/lab") == (404, "NodeNotFound")
        space.run("transfers", transfer(target, "lab", keeps="false"))


@each("path", ["lab/run", "link", "lab/in"])
def test_into_a_container(space: Space, store: Store, path: str) -> None:
    job = space.run("transfers", transfer(path, "empty", keeps="true"))
    assert phase_of(job) == "COMPLETED"
    space.ask("DELETE", "/nodes/empty")
    space.make("empty/")
    job = space.run("transfers", transfer(path, "empty", keeps="false"))  # 47 C
    name = path.rpartition("/")[2]
    assert results_of(job) == {"destination": uri(f"empty/{name}")}
    assert space.children("empty") == [name]
    space.run("transfers", transfer(f"empty/{name}", path, keeps="false"))
    space.ask("DELETE", "/nodes/empty")
    if path == "link":
        assert space.bytes_of("link") == b"lab/run"


FAILURES = [
    ("49 P taken within", transfer("lab/run", "other", keeps="false"), "DuplicateNode"),
    ("50 P C onto data", transfer("lab/run", "other/run", keeps="false"), "DuplicateNode"),
    ("51 P no source", transfer("none", "x", keeps="false"), "NodeNotFound"),
    ("52 P no parent", transfer("lab", "none/x", keeps="false"), "NodeNotFound"),
    ("53 P C below itself", transfer("lab", "lab/in/x", keeps="false"), "InvalidURI"),
    ("onto itself", transfer("lab", "lab", keeps="true"), "InvalidURI"),
    ("link in the way", transfer("link/x", "x", keeps="true"), "LinkFound"),
    ("link to be put in", transfer("lab/run", "link/x", keeps="true"), "LinkFound"),
    ("the root", transfer(ROOT, "x", keeps="false"), "PermissionDenied"),
    ("move or copy", transfer("lab", "x"), "InvalidArgument"),
    ("elsewhere", transfer("lab", "vos://else~where/x", keeps="true"), "InvalidURI"),
    ("too long", transfer("lab", "x" * 1020, keeps="true"), "InvalidURI"),
]


@each("name, body, fault", FAILURES, ids=[case[0] for case in FAILURES])
def test_what_cannot_be_moved(space: Space, store: Store, name: str, body: str, fault: str) -> None:
    before = _tree(store, "")
    job = space.run("transfers", body)
    assert phase_of(job) == "ERROR"
    path = f"/transfers/{job[0].text}"
    assert space.ask("GET", f"{path}/error").body == fault.encode()
    assert message_of(job).replace(" ", "") == fault
    assert _tree(store, "") == before


class _Meddled(FileSystemStore):
    """Has no transactions; before ``to/c`` is written something happens."""

    def __init__(self, folder: Path, meddle: Callable[[Store], object]) -> None:
        super().__init__(folder)
        self._meddle = meddle

    def _write(self, key: str, change: Change) -> Written:
        if key == "to/c":
            self._meddle(self)
        return super()._write(key, change)


def _full(store: Store) -> None:
    raise StorageFullError("There is no room.")


MEDDLING = [
    (lambda store: store.set_data("from/b", b"new"), "NodeBusy", {"b": b"new", "c": b"from/c"}),
    (_full, "InsufficientStorage", {name: b"from/" + name.encode() for name in "abc"}),
]


@each("meddle, fault, left", MEDDLING)
def test_a_move_without_transactions_loses_nothing(
    tmp_path: Path, meddle: Callable[[Store], object], fault: str, left: dict[str, bytes]
) -> None:
    store = _Meddled(tmp_path / fault, meddle)
    with store, serve_background(store, gateways=[VospaceGateway(IDENTIFIER)]) as url:
        space = Space(url)
        space.make("from/", "from/a", "from/b", "from/c")
        job = space.run("transfers", transfer("from", "to", keeps="false"))
        assert (phase_of(job), message_of(job)) == ("ERROR", SUMMARIES.get(fault, fault))
        there = {key: store.to_bytes(f"from/{key}") for key in space.children("from")}
        assert there == left
        made = [] if fault == "InsufficientStorage" else ["to/", "to/a", "to/b", "to/c"]
        assert list(store.query_keys(prefix="to")) == made


def test_the_source_may_go_before_the_job_is_begun(space: Space) -> None:
    path = space.job("transfers", transfer("lab/run", "x", keeps="false"))
    space.ask("DELETE", "/nodes/lab/run")
    space.ask("POST", f"{path}/phase", body="phase=run")  # in lower case: the client does so
    assert message_of(space.document(path)) == "Node Not Found"  # 54 P


def test_null_and_auto(space: Space) -> None:
    job = space.run("transfers", transfer("lab/run", "lab/.auto", keeps="true"))
    (made,) = results_of(job).values()
    assert made.startswith(uri("lab/"))
    assert space.ask("GET", f"/files/{made.removeprefix(ROOT + '/')}").body == b"lab/run"
    job = space.run("transfers", transfer("lab", ".null", keeps="false"))
    assert phase_of(job) == "COMPLETED"
    assert space.children() == ["link", "other"]


# -- whole trees (prototypes of version 2.2) -----------------------------------------------------


def test_trees_are_deleted(space: Space, store: Store) -> None:
    job = space.run("async-delete", f"target={ROOT}/lab")  # 78 C
    assert phase_of(job) == "COMPLETED"
    assert results_of(job) == {"successcount": "final:4"}
    assert _tree(store, "lab/") == {}


def test_properties_of_trees_are_set(space: Space, store: Store) -> None:
    body = node("lab", "ContainerNode", properties={"urn:x:y": "z"})
    assert results_of(space.run("async-setprops", body)) == {"successcount": "final:4"}  # 81 C
    assert space.properties("lab/in/deep")["urn:x:y"] == "z"
    assert space.properties("lab")["urn:x:y"] == "z"
    body = '<?xml version="1.0"?>' + node("lab", "ContainerNode", properties={"urn:x:y": None})
    assert results_of(space.run("async-setprops", body)) == {"successcount": "final:4"}
    assert "urn:x:y" not in space.properties("lab/in/deep")


@each("kind, body", [("async-delete", f"target={ROOT}/none"), ("async-setprops", node("none"))])
def test_trees_that_are_not_there(plain: Space, kind: str, body: str) -> None:
    assert message_of(plain.run(kind, body)) == "Node Not Found"


# -- transfers that last -------------------------------------------------------------------------


def test_a_transfer_lasts_until_the_bytes_have_come(plain: Space) -> None:
    path = plain.job("transfers", transfer("lab/new", "pushToVoSpace", "httpput"))
    details = f"{path}/results/transferDetails"
    assert plain.fault("GET", details) == (400, "InvalidArgument")  # 74 P
    name = path.rpartition("/")[2]
    early = f"/files/lab/new?job={name}"
    assert plain.fault("PUT", early, body=b"x") == (400, "InvalidArgument")  # 73 P
    plain.ask("POST", f"{path}/phase", body="PHASE=RUN")
    job = plain.document(path)
    assert phase_of(job) == "EXECUTING"
    assert path_in(results_of(job)["transferDetails"]) == details
    (endpoint,) = endpoints_in(plain.document(details))
    assert plain.ask("PUT", path_in(endpoint), body=b"data").status == 201
    assert plain.ask("GET", f"{path}/phase").body == b"COMPLETED"
    assert plain.fault("PUT", path_in(endpoint), body=b"again") == (400, "InvalidArgument")  # 75
    assert plain.bytes_of("lab/new") == b"data"


def test_a_transfer_lasts_until_the_bytes_are_fetched(plain: Space) -> None:
    body = transfer("lab/run", "pullFromVoSpace", "httpget")
    path = plain.path_of(plain.ask("POST", "/transfers?PHASE=RUN", body=body))
    (endpoint,) = endpoints_in(plain.document(f"{path}/results/transferDetails"))
    assert plain.ask("HEAD", path_in(endpoint)).status == 200
    assert plain.ask("GET", f"{path}/phase").body == b"EXECUTING"
    assert plain.ask("GET", path_in(endpoint)).body == b"lab/run"
    assert plain.ask("GET", f"{path}/phase").body == b"COMPLETED"


def test_a_transfer_can_be_given_up(plain: Space) -> None:
    body = transfer("lab/gone", "pushToVoSpace", "httpput")
    path = plain.path_of(plain.ask("POST", "/transfers?PHASE=RUN", body=body))
    details = f"{path}/results/transferDetails"
    (endpoint,) = endpoints_in(plain.document(details))
    plain.ask("POST", f"{path}/phase", body="PHASE=ABORT")  # 77 P
    assert plain.ask("GET", f"{path}/phase").body == b"ABORTED"
    assert endpoints_in(plain.document(details)) == []
    assert plain.fault("PUT", path_in(endpoint), body=b"x") == (400, "InvalidArgument")


@each("size", [4, 2_000_000])
def test_a_transfer_can_be_given_up_while_bytes_come(plain: Space, size: int) -> None:
    body = transfer("lab/gone", "pushToVoSpace", "httpput")
    path = plain.path_of(plain.ask("POST", "/transfers?PHASE=RUN", body=body))
    (endpoint,) = endpoints_in(plain.document(f"{path}/results/transferDetails"))
    with Wire(plain.url) as wire:
        wire.head("PUT", f"/vos{path_in(endpoint)}", f"Content-Length: {size}")
        wire.send(bytes(size // 2))
        plain.ask("POST", f"{path}/phase", body="PHASE=ABORT")
        wire.send(bytes(size // 2))
        assert wire.read("PUT").status == 400  # 77 P
    assert plain.fault("GET", "/nodes/lab/gone") == (404, "NodeNotFound")


def test_a_transfer_that_cannot_be(plain: Space) -> None:
    body = transfer("none/n", "pushToVoSpace", "httpput")
    job = plain.document(plain.path_of(plain.ask("POST", "/transfers?PHASE=RUN", body=body)))
    assert (phase_of(job), message_of(job)) == ("ERROR", "Container Not Found")


# -- jobs themselves -----------------------------------------------------------------------------

BAD = [
    ("GET", "/transfers/nonsense", b"", 400, "InvalidArgument"),
    ("POST", "/transfers/nonsense/phase", b"PHASE=RUN", 400, "InvalidArgument"),  # 55 P
    ("GET", f"/transfers/{'0' * 32}", b"", 404, "NodeNotFound"),
    ("POST", "/transfers", b"<x/>", 400, "InvalidArgument"),
    ("POST", "/transfers", transfer("lab", "sideways:x").encode(), 400, "InvalidArgument"),
    ("POST", "/async-delete", b"", 400, "InvalidArgument"),
    ("POST", "/async-delete", b"target=http://127.0.0.1/", 400, "InvalidURI"),
    ("POST", "/async-setprops", b"", 400, "InvalidArgument"),
    ("POST", "/transfers", b"x" * 70_000, 413, "RequestEntityTooLarge"),
    ("PUT", "/transfers", b"x", 405, "OperationNotSupported"),
]


@each("method, path, body, status, fault", BAD)
def test_what_is_no_job(
    plain: Space, method: str, path: str, body: bytes, status: int, fault: str
) -> None:
    assert plain.fault(method, path, body=body) == (status, fault)


def test_a_job_as_a_resource(plain: Space) -> None:
    path = plain.job("transfers", transfer("lab/run", "lab/copy", keeps="true"))
    name = path.rpartition("/")[2]
    assert plain.fault("POST", f"{path}/phase", body=b"PHASE=STOP") == (
        400,
        "InvalidArgument",
    )  # 56
    assert plain.fault("GET", f"{path}/results/transferDetails") == (400, "InvalidArgument")  # 58
    for part in ("phase", "owner", "error", "quote", "executionduration", "results", "parameters"):
        assert plain.ask("GET", f"{path}/{part}").status == 200
    told = plain.ask("GET", f"{path}/destruction").body.decode()
    assert told == plain.document(path).findtext(f"{UWS}destruction")
    assert plain.ask("GET", f"{path}/magic").status == 404
    assert plain.ask("GET", f"/async-delete/{name}").status == 404
    assert name in [one.get("id") for one in plain.document("/transfers")]
    assert plain.ask("DELETE", path).status == 303
    assert plain.ask("GET", path).status == 404
    assert name not in [one.get("id") for one in plain.document("/transfers")]


def test_a_job_is_begun_once(plain: Space) -> None:
    path = plain.job("transfers", transfer("lab/run", "lab/.auto", keeps="true"))
    count = len(plain.children("lab"))
    for _ in range(3):
        assert plain.ask("POST", f"{path}/phase", body="PHASE=RUN").status == 303
    assert len(plain.children("lab")) == count + 1


def test_a_job_that_waits_can_be_given_up(plain: Space) -> None:
    path = plain.job("async-delete", f"target={ROOT}/lab")
    plain.ask("POST", f"{path}/phase", body="PHASE=ABORT")
    plain.ask("POST", f"{path}/phase", body="PHASE=RUN")
    assert phase_of(plain.document(path)) == "ABORTED"
    assert plain.bytes_of("lab/run") == b"lab/run"


class _Slow(MemoryStore):
    """Waits before the second key that is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.at_second, self.go_on = threading.Event(), threading.Event()
        self._deleted = 0

    def _delete(self, *args: Any) -> Any:
        self._deleted += 1
        if self._deleted == 2:
            self.at_second.set()
            assert self.go_on.wait(20)
        return super()._delete(*args)


def test_a_job_at_work_can_be_waited_for_and_given_up() -> None:
    store = _Slow()
    jobs = Jobs()
    with serve_background(store, gateways=[VospaceGateway(IDENTIFIER, jobs)]) as url:
        space = Space(url)
        space.make("lab/", "lab/a", "lab/b", "lab/c")
        path = space.job("async-delete", f"target={ROOT}/lab")
        begun = threading.Thread(
            target=lambda: space.ask("POST", f"{path}/phase", body="PHASE=RUN")
        )
        begun.start()
        assert store.at_second.wait(20)
        assert phase_of(space.document(f"{path}?WAIT=0")) == "EXECUTING"
        space.ask("POST", f"{path}/phase", body="PHASE=ABORT")
        store.go_on.set()
        assert phase_of(space.document(f"{path}?WAIT=20")) == "ABORTED"
        begun.join(20)
        assert list(store.query_keys()) == ["lab/b", "lab/c"]
        assert space.fault("GET", f"{path}?WAIT=soon") == (400, "InvalidArgument")


# -- jobs as files -------------------------------------------------------------------------------


def test_jobs_are_shared_by_processes(tmp_path: Path) -> None:
    one, other = Jobs(tmp_path / "jobs"), Jobs(tmp_path / "jobs")
    job = one.add("transfers", "ada", "<x/>", results=(("a", "b"),))
    assert other.get("transfers", job.id, "ada") == job
    assert other.claim(job)
    assert not one.claim(job)
    for kind, owner in [("async-delete", "ada"), ("transfers", "bob")]:
        with pytest.raises(Fault, match="There is no job"):
            other.get(kind, job.id, owner)
    other.remove(job)
    assert list((tmp_path / "jobs").iterdir()) == []


def _file(folder: Path, job_id: str) -> Path:
    (file,) = folder.glob(f"*{job_id}.json")
    return file


def test_the_job_of_a_process_that_has_died_has_failed(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    job = jobs.add("transfers", "ada", "<x/>", phase="EXECUTING")
    assert jobs.get("transfers", job.id, "ada").phase == "EXECUTING"
    long_ago = time.time() - 3600
    os.utime(_file(tmp_path, job.id), (long_ago, long_ago))
    found = jobs.get("transfers", job.id, "ada")
    assert (found.phase, found.fault) == ("ERROR", "InternalFault")


def test_old_jobs_go(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    first = jobs.add("transfers", "ada", "<x/>")
    long_ago = time.time() - 25 * 3600
    file = _file(tmp_path, first.id)
    os.utime(file, (long_ago, long_ago))
    for _ in range(100):
        jobs.add("transfers", "ada", "<x/>")
    assert not file.exists()
    assert len(list(tmp_path.iterdir())) == 100


def test_jobs_are_beside_the_uploads_of_the_server(tmp_path: Path) -> None:
    settings = Settings(uploads=tmp_path / "uploads")
    gateway = VospaceGateway.for_settings(settings, {})
    with serve_background(MemoryStore(), gateways=[gateway]) as url:
        Space(url).job("async-delete", "target=vos://kvstore~vos/lab")
    assert len(list((tmp_path / "uploads-vospace").iterdir())) == 1
