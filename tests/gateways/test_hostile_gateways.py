"""What hostile clients try with gateways, beside what the tests of each of them hold off."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kvstore.errors import AuthenticationError, StorageFullError, UnavailableError
from kvstore.gateways.datasafe import DatasafeGateway
from kvstore.gateways.datasafe.datasets import find_dataset
from kvstore.gateways.datasafe.lois import parse_loi
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.gateways.vospace import VospaceGateway, jobs, running
from kvstore.gateways.vospace.jobs import Jobs
from kvstore.gateways.vospace.running import Outcome, Runner
from kvstore.gateways.vospace.work import while_allowed
from kvstore.server import Gateway, Limits, create_app, serve_background
from kvstore.server.access.callers import Caller
from kvstore.server.answers import Reply
from kvstore.server.exchange import Exchange
from kvstore.server.site import Site
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.writes import Change, Written
from tests.cases import each
from tests.gateways.datasets import FILES, Safe, archive
from tests.gateways.vos_space import IDENTIFIER, Space, node, phase_of, transfer
from tests.server.access import Lab, lab_of
from tests.server.sockets import Wire, ask


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    gateways = [VospaceGateway(IDENTIFIER)]
    with lab_of(MemoryStore(), folder, public_read=True, gateways=gateways) as lab:
        lab.token("reader", user="ada", scopes=["read"])
        _as(lab, "ada").make("lab/", "lab/x")
        yield lab


@pytest.fixture(scope="module")
def safe() -> Iterator[Safe]:
    store = MemoryStore()
    with serve_background(store, gateways=[DatasafeGateway()]) as url:
        yield Safe(url, store)


@pytest.fixture(scope="module")
def track() -> Iterator[Safe]:
    store = MemoryStore()
    limits = Limits(streams=1)
    with serve_background(store, limits=limits, gateways=[FiletrackerGateway()]) as url:
        yield Safe(url, store)


def _as(lab: Lab, name: str | None) -> Space:
    return Space(lab.url, () if name is None else (lab.line(name),))


# -- jobs of others ------------------------------------------------------------------------------

CHANGES = [
    ("POST", "/phase", b"PHASE=ABORT"),
    ("POST", "/phase", b"PHASE=RUN"),
    ("DELETE", "", b""),
]


@each("method, part, body", CHANGES)
def test_who_may_only_read_changes_no_job_of_who_may_write(
    lab: Lab, method: str, part: str, body: bytes
) -> None:
    ada, reader = _as(lab, "ada"), _as(lab, "reader")
    job = ada.job("transfers", transfer("lab/x", "lab/y", keeps="true"))
    assert reader.fault(method, f"{job}{part}", body=body) == (403, "PermissionDenied")
    assert phase_of(ada.document(job)) == "PENDING"
    assert phase_of(reader.document(job)) == "PENDING"  # looking at it is reading


def test_who_may_only_read_has_jobs_of_its_own(lab: Lab) -> None:
    reader = _as(lab, "reader")
    job = reader.job("transfers", transfer("lab/x", "pullFromVoSpace", "httpget"))
    assert reader.ask("POST", f"{job}/phase", body="PHASE=RUN").status == 303
    assert phase_of(reader.document(job)) == "EXECUTING"
    assert reader.ask("POST", f"{job}/phase", body="PHASE=ABORT").status == 303
    assert reader.ask("DELETE", job).status == 303


def test_reading_for_a_job_of_who_may_write_does_not_end_it(lab: Lab) -> None:
    ada, reader = _as(lab, "ada"), _as(lab, "reader")
    job = ada.job("transfers", transfer("lab/x", "pullFromVoSpace", "httpget"))
    ada.ask("POST", f"{job}/phase", body="PHASE=RUN")
    name = job.rpartition("/")[2]
    assert reader.ask("GET", f"/files/lab/x?job={name}").body == b"lab/x"
    assert phase_of(ada.document(job)) == "EXECUTING"
    assert ada.ask("GET", f"/files/lab/x?job={name}").body == b"lab/x"
    assert phase_of(ada.document(job)) == "COMPLETED"


def test_those_without_a_name_do_not_learn_of_the_jobs_of_each_other(lab: Lab) -> None:
    nobody = _as(lab, None)
    job = nobody.job("transfers", transfer("lab/x", "pullFromVoSpace", "httpget"))
    assert phase_of(nobody.document(job)) == "PENDING"
    assert job.rpartition("/")[2].encode() not in nobody.ask("GET", "/transfers").body


def test_who_makes_many_jobs_has_those_of_nobody_else_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_MOST_EACH", 5)
    monkeypatch.setattr(jobs, "_LOOK_EACH", 10)
    kept = Jobs(tmp_path)
    first = kept.add("transfers", "ada", "<x/>")
    for _ in range(40):
        kept.add("transfers", "public", "<x/>")
    assert kept.of("transfers", "ada", 100) == [first]
    assert len(kept.of("transfers", "public", 100)) <= 15
    assert len(kept.of("transfers", "../ada", 100)) == 0


def test_one_owner_does_not_have_all_jobs_done(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner()
    runner._tasks = dict.fromkeys(range(running._MOST_EACH), "eve")  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        runner.check("eve")
    runner.check("ada")
    runner.check(None)


def test_a_job_ends_with_the_credentials_that_it_was_begun_with() -> None:
    answers = iter([True, True, False])
    caller = Caller("t", "ada", frozenset({"ada"}), frozenset(), holds=lambda: next(answers))
    looks = 0

    def work(halt: Any) -> Outcome:
        nonlocal looks
        while True:
            halt()
            looks += 1

    with pytest.raises(AuthenticationError):
        while_allowed(work, caller)(lambda: None)
    assert looks == 2


# -- what is left behind -------------------------------------------------------------------------


class _Failing(FileSystemStore):
    """Others write into source and copy before the third key is copied, which fails."""

    def _write(self, key: str, change: Change) -> Written:
        if key == "copy/3":
            super()._write("lab/0", Change(data=change.data))
            self.set_data("copy/0", b"of others")
            self.set_data("copy/2", b"of others")
            raise StorageFullError("full: /secret/path\r\nX: y")
        return super()._write(key, change)


def test_a_copy_that_fails_takes_back_what_it_made_alone(tmp_path: Path) -> None:
    store = _Failing(tmp_path / "store")
    with serve_background(store, gateways=[VospaceGateway(IDENTIFIER)]) as url:
        space = Space(url)
        space.make("lab/", "lab/1", "lab/2", "lab/3")
        job = space.run("transfers", transfer("lab", "copy", keeps="true"))
        assert phase_of(job) == "ERROR"
        copied, source = ["copy/0", "copy/2"], ["lab/", "lab/0", "lab/1", "lab/2", "lab/3"]
        assert sorted(store.query_keys()) == [*copied, *source]
        answer = space.ask("PUT", "/nodes/copy/3", body=node("copy/3"))
        assert (answer.status, answer.body.split()[0]) == (507, b"InsufficientStorage")
        assert b"secret" not in answer.body


# -- names of others in archives -----------------------------------------------------------------

ELSEWHERE = ["", "/abs", "C:\\x", "a\\..\\..\\x", "line\nbreak", "\x7f", "run.dat/below"]


@each("name", ELSEWHERE)
def test_no_archive_has_a_name_that_leads_elsewhere(safe: Safe, name: str) -> None:
    loi = safe.put(safe.new())
    safe.store.set_data(f"{loi}/{name}", b"planted")
    assert safe.files(loi) == FILES
    assert safe.ask("PATCH", loi, body=archive(FILES)).status == 200
    assert safe.files(loi) == FILES


def test_an_archive_with_a_line_break_in_a_name_is_refused(safe: Safe) -> None:
    answer = safe.ask("PUT", safe.new(), body=archive({**FILES, "line\nbreak": b"data"}))
    assert (answer.status, b"no relative name" in answer.body) == (400, True)


def test_a_dataset_is_read_without_the_metadata_of_its_files(safe: Safe) -> None:
    loi = safe.put(safe.new())
    safe.store.update_metadata(f"{loi}/run.dat", {"much": "x" * 1000})
    found = find_dataset(create_app(safe.store).site, parse_loi(loi))
    assert [set(record.metadata) for record in found.members] == [{"datasafe"}] * 3
    safe.store.set_metadata(f"{loi}/run.dat", {"datasafe": {"loi": "x" * 10_000}})
    found = find_dataset(create_app(safe.store).site, parse_loi(loi))
    assert [record.metadata for record in found.members if record.key.endswith("dat")] == [{}]


# -- filetracker -------------------------------------------------------------------------------

DATE = "Thu,%2026%20Nov%202020%2010:00:00%20%2B0000"


@each("size", [5, 100_000])
@each("coding", ["identity", "gzip"])
@each("field", ["Repr-Digest", "Content-Digest"])
def test_another_digest_than_was_announced(track: Safe, field: str, coding: str, size: int) -> None:
    data = os.urandom(size)
    body = gzip.compress(data) if coding == "gzip" else data
    target = f"/filetracker/files/k?last_modified={DATE}"
    for digested, status in [(data + b"?", 400), (body, 200)]:
        digest = base64.b64encode(hashlib.sha256(digested).digest()).decode()
        lines = (f"{field}: sha-256=:{digest}:", f"Content-Encoding: {coding}")
        assert ask(track.url, "PUT", target, *lines, body=body).status == status
        assert track.store.exists("k") == (status == 200)
    track.store.delete("k")


def test_who_reads_slowly_keeps_nobody_from_listing(track: Safe) -> None:
    track.store.set_data("slow", os.urandom(10 << 20).hex().encode())
    with Wire(track.url) as wire:
        wire.head("GET", "/filetracker/files/slow", "Accept-Encoding: gzip")
        assert b"content-encoding: gzip" in wire.socket.recv(4096)
        assert ask(track.url, "GET", "/filetracker/list/").body == b"slow\n"  # with one thread
    track.store.delete("slow")


# -- the frame -----------------------------------------------------------------------------------


class _Speechless(Gateway):
    name: ClassVar[str] = "speechless"
    prefix: ClassVar[str] = "/speechless"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply:
        raise StorageFullError("full")

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        raise LookupError("no words")


def test_a_gateway_that_cannot_tell_an_error_leaves_it_to_the_server() -> None:
    with serve_background(MemoryStore(), gateways=[_Speechless()]) as url:
        answer = ask(url, "GET", "/speechless")
    assert answer.problem["type"] == "urn:kvstore:error:storage-full"
    assert answer.status == 507
