from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import ConflictError
from kvstore.gateways.meteorpi import MeteorpiGateway
from kvstore.gateways.meteorpi.pending import ASKED
from kvstore.hashing import sha256
from kvstore.server import Limits, serve_background
from kvstore.server.access.callers import Access
from kvstore.server.access.tokens import Tokens
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.cases import each, empty
from tests.gateways.meteorpi_camera import Camera, Exporter, as_input
from tests.interop.peers import installed, running
from tests.server.access import Lab, authenticator

ROOT = Path(__file__).parents[2]
MADE_BEFORE = b"made by somebody else"

PEER = (
    *("meteorpi-fdb==0.1.5", "meteorpi-model==0.1.5", "--no-deps", "requests==2.34.2"),
    *("requests-toolbelt==1.0.0", "APScheduler==3.11.3", "tzlocal==5.4.5", "urllib3==2.8.0"),
    *("certifi==2026.10.19.post1", "charset-normalizer==3.5.3", "idna==3.20"),
)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[MemoryStore, str]]:
    with MemoryStore() as store:
        limits = Limits(data=100_000, requests=10**6)
        with serve_background(store, limits=limits, gateways=[MeteorpiGateway()]) as url:
            yield store, f"{url}/meteorpi/import"


@pytest.fixture
def store(served: tuple[MemoryStore, str]) -> MemoryStore:
    empty(served[0])
    return served[0]


@pytest.fixture
def target(served: tuple[MemoryStore, str]) -> str:
    return served[1]


@pytest.fixture
def camera() -> Camera:
    return Camera()


@pytest.fixture
def exporter(store: MemoryStore, target: str, camera: Camera) -> Exporter:
    return Exporter(target, camera)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server over SQLite whose callers have tokens."""
    folder = tmp_path_factory.mktemp("lab")
    tokens = Tokens(folder / "tokens.json")
    access = Access([authenticator(tokens)], failures=10**6)
    with SQLiteStore(folder / "store") as store:
        with serve_background(store, access=access, gateways=[MeteorpiGateway()]) as url:
            yield Lab(url, store, tokens)


def facts(store: Any, key: str) -> Any:
    return store.get_metadata(key)["meteorpi"]


def pending(store: Any) -> list[str]:
    return list(store.query_keys(prefix="meteorpi/pending/"))


# -- what an exporter sees ---------------------------------------------------------------------


def test_an_event_takes_as_many_requests_as_it_did(store, camera, exporter):
    event_id = camera.event(camera.file(b"one"), camera.file(b"two"))
    assert exporter.export(event_id) == "complete"
    data = ["need_file_data", "data:200"]
    assert exporter.told == ["need_status", *data, *data, "complete"]
    assert pending(store) == []


def test_what_is_here_is_complete_at_once_and_stays(store, camera, exporter):
    event_id = camera.event(file_id := camera.file(b"one"))
    assert exporter.export(event_id) == "complete"
    before = {key: store.record(key).revision for key in store.query_keys()}
    exporter.told.clear()
    assert [exporter.export(event_id), exporter.export(file_id)] == ["complete", "complete"]
    assert exporter.post(
        {"type": "status", "status": camera.statuses[camera.status_id]}
    ).json() == {"state": "continue"}
    assert exporter.told == ["complete", "complete"]
    assert {key: store.record(key).revision for key in store.query_keys()} == before


def test_a_file_of_a_known_status_takes_one_upload(store, camera, exporter):
    assert exporter.export(camera.file(b"one")) == "complete"
    exporter.told.clear()
    assert exporter.export(camera.file(b"")) == "complete"
    assert exporter.told == ["need_file_data", "data:200", "complete"]


def test_each_status_that_is_named_is_asked_for(store, camera, exporter):
    other = camera.status(camera_id="camB")
    event_id = camera.event(camera.file(b"one", status_id=other), camera.file(b"two"))
    assert exporter.export(event_id) == "complete"
    assert exporter.told[:2] == ["need_status", "need_status"]
    assert facts(store, f"meteorpi/statuses/{other}")["camera_id"] == "camB"


@pytest.mark.parametrize("kind", [SQLiteStore, FileSystemStore])
def test_over_other_stores(kind, tmp_path, camera):
    with kind(tmp_path / "store") as store:
        with serve_background(store, gateways=[MeteorpiGateway()]) as url:
            exporter = Exporter(f"{url}/meteorpi/import", camera)
            event_id = camera.event(camera.file(b"one"), camera.file(bytes(300_000)))
            assert exporter.export(event_id) == "complete"
            assert len(exporter.told) == 6
        assert len(list(store.query_keys())) == 4


# -- what is stored ------------------------------------------------------------------------------


def test_entities_are_keys_that_name_each_other(store, camera, exporter):
    file_id = camera.file(b"image", mime_type="image/gif")
    exporter.upload(file_id, mimetype="image/gif")
    event_id = camera.event(file_id)
    assert exporter.export(event_id) == "complete"
    event = facts(store, f"meteorpi/events/{event_id}")
    assert event == {
        "type": "event",
        "camera_id": "camA",
        "event_type": "meteorpi:meteor",
        "event_time": 1427415300000,
        "time": "2015-03-27T00:15:00.000Z",
        "status": f"meteorpi/statuses/{camera.status_id}",
        "files": [f"meteorpi/files/{file_id}"],
        "meta": {"meteorpi:name": "Perseid"},
    }
    value = store.get(event["files"][0])
    assert (value.read(), value.mimetype) == (b"image", "image/gif")
    assert value.metadata["meteorpi"] == {
        "type": "file",
        "camera_id": "camA",
        "semantic_type": "meteorpi:stacked_image",
        "mime_type": "image/gif",
        "file_name": "meteor.png",
        "file_size": 5,
        "file_time": 1427415300250,
        "time": "2015-03-27T00:15:00.250Z",
        "md5": camera.files[file_id]["md5"],
        "digest": sha256(b"image"),
        "status": event["status"],
        "meta": {"meteorpi:peak": 0.75},
    }
    status = facts(store, event["status"])
    sent = camera.statuses[camera.status_id]
    assert status == {"type": "status", **{k: v for k, v in sent.items() if k != "status_id"}}


def test_queries_see_what_was_sent(store, camera, exporter):
    for peak, when in ((0.5, 0), (0.9, 86_400_000)):
        meta = [
            {"type": "number", "key": "meteorpi:peak", "value": peak},
            {"type": "string", "key": "note", "value": "a"},
            {"type": "string", "key": "note", "value": "b"},
            {"type": "date", "key": "seen", "value": when},
        ]
        file_id = camera.file(b"%d" % when, meta=meta, file_time=when)
        assert exporter.export(file_id) == "complete"
    bright = {"meteorpi.meta.meteorpi:peak": {"gt": 0.6}, "meteorpi.type": "file"}
    [key] = store.query_keys(where=bright)
    assert key == f"meteorpi/files/{file_id}"
    told = facts(store, key)
    assert told["meta"] == {"meteorpi:peak": 0.9, "note": ["a", "b"], "seen": 86_400_000}
    assert (told["dates"], told["time"]) == (["seen"], "1970-01-02T00:00:00.000Z")


def test_other_clients_see_it_and_it_sees_theirs(store, target, camera, exporter):
    file_id = camera.file(b"image")
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    url = f"{target.removesuffix('/meteorpi/import')}/keys/meteorpi/files/{file_id}"
    assert exporter.web.put(f"{url}/data", data=b"image").status_code == 201
    assert exporter.export(file_id) == "complete"
    assert exporter.told == ["complete"]  # it was here already, byte for byte
    assert exporter.web.get(f"{url}/data").content == b"image"
    assert exporter.web.get(f"{url}/metadata").json()["meteorpi"]["camera_id"] == "camA"


# -- data that are not as they should be ---------------------------------------------------------


def test_a_mismatch_ends_and_leaves_nothing(store, camera, exporter):
    file_id = camera.file(b"right")
    camera.data[file_id] = b"wrong"
    event_id = camera.event(file_id)
    assert exporter.export(event_id) == "confused"
    assert ASKED == 5  # as docs/meteorpi.md says
    again = ["need_file_data", "data:400"] * ASKED
    assert exporter.told == ["need_status", *again, "failed"]
    assert not store.exists(f"meteorpi/files/{file_id}")
    assert not store.exists(f"meteorpi/events/{event_id}")
    [key] = pending(store)
    told = facts(store, key)
    assert (told["state"], told["of"], told["needs"]) == ("failed", "event", file_id)
    assert file_id in told["message"]

    exporter.told.clear()  # half an hour later it comes again, and again it ends
    assert exporter.export(event_id) == "confused"
    assert exporter.told == [*again, "failed"]
    camera.data[file_id] = b"right"
    assert exporter.export(event_id) == "complete"
    assert pending(store) == []


def test_who_is_refused_is_told_why(exporter, camera):
    file_id = camera.file(b"right")
    answer = exporter.upload(file_id, b"wrong")
    assert answer.status_code == 400
    told = answer.json()
    assert told["state"] == "failed"
    assert camera.files[file_id]["md5"] in told["message"]


def test_an_exporter_that_sends_all_each_time_comes_to_an_end_too(store, camera, exporter):
    file_id = camera.file(b"right")
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    states = [exporter.post(camera.entity(file_id)).json()["state"] for _ in range(ASKED + 2)]
    assert states == [*["need_file_data"] * ASKED, "failed", "need_file_data"]


def test_a_status_that_never_comes_ends_too(store, camera, exporter):
    camera.statuses[camera.status_id]["camera_id"] = 7  # which is refused, and nobody looks
    assert exporter.export(camera.file(b"one")) == "confused"
    assert exporter.told == [*["need_status"] * ASKED, "failed"]


def test_what_is_too_large_is_refused_before_it_travels(store, camera, exporter):
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    large = bytes(100_001)
    assert exporter.export(camera.file(large)) == "failed"
    assert exporter.told == ["413"]
    exporter.told.clear()
    assert exporter.export(camera.file(large, file_size=0)) == "confused"
    assert exporter.told == [*["need_file_data", "data:413"] * ASKED, "failed"]
    assert exporter.export(camera.file(bytes(100_000))) == "complete"


def test_an_unknown_id_asks_for_all_of_it(store, camera, exporter):
    file_id = camera.file(b"one")
    exporter.post(camera.entity(file_id))
    store.delete(f"meteorpi/pending/{file_id}")
    again = {"type": "cached_entity", "cached_entity_id": file_id}
    assert exporter.post(again).json() == {"state": "continue-nocache"}
    assert exporter.post(again).json() == {"state": "continue-nocache"}
    assert exporter.export(file_id) == "complete"


@each("kept", [b"", b"no JSON", b'{"type":"status"}', bytes(2 << 20), None])
def test_what_is_kept_of_an_entity_is_not_trusted(store, camera, exporter, kept):
    file_id = camera.file(b"one")
    if kept is None:  # another entity under its name
        other = camera.file(b"two")
        kept = json.dumps(camera.entity(other)).encode()
    store.set_data(f"meteorpi/pending/{file_id}", kept)
    again = {"type": "cached_entity", "cached_entity_id": file_id}
    assert exporter.post(again).json() == {"state": "continue-nocache"}
    assert exporter.export(file_id) == "complete"


def test_a_record_that_is_sent_anew_replaces_what_is_kept(store, camera, exporter):
    file_id = camera.file(b"one")
    assert exporter.post(camera.entity(file_id)).json()["state"] == "need_status"
    camera.files[file_id]["semantic_type"] = "meteorpi:other"
    assert exporter.export(file_id) == "complete"
    assert facts(store, f"meteorpi/files/{file_id}")["semantic_type"] == "meteorpi:other"


def test_an_event_of_many_files_looks_at_each_a_few_times(store, camera, exporter, monkeypatch):
    looks = []
    record = MemoryStore._record
    monkeypatch.setattr(MemoryStore, "_record", lambda *args: looks.append(1) or record(*args))
    assert exporter.export(camera.event(*(camera.file(b"%d" % n) for n in range(40)))) == "complete"
    assert len(looks) < 40 * 12  # 40 * 40 / 2 if it began anew each time


# -- keys that others write, too -----------------------------------------------------------------


def test_data_that_were_changed_here_stay_and_the_md5_says_of_what_it_is(store, camera, exporter):
    file_id = camera.file(b"image")
    exporter.export(file_id)
    key = f"meteorpi/files/{file_id}"
    store.set_data(key, b"calibrated")
    assert exporter.export(camera.event(file_id)) == "complete"
    assert store.get(key).read() == b"calibrated"
    assert facts(store, key)["digest"] != store.record(key).digest


def test_what_others_put_there_is_not_overwritten(store, camera, exporter):
    file_id = camera.file(b"image")
    key = f"meteorpi/files/{file_id}"
    store.set(key, (MADE_BEFORE, {"mine": True}))
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    assert exporter.export(camera.event(file_id)) == "failed"
    assert exporter.told == ["409"]
    assert exporter.upload(file_id).status_code == 409
    assert store.get(key).read() == MADE_BEFORE
    store.set_data(key, b"image")
    assert exporter.export(camera.event(file_id)) == "complete"
    assert store.get_metadata(key)["mine"] is True


def test_another_file_of_the_same_id_is_refused(store, camera, exporter):
    file_id = camera.file(b"image")
    exporter.export(file_id)
    other = Camera(seed=camera.seed)
    other.file(b"another")
    assert list(other.files) == [file_id]
    second = Exporter(exporter.target, other)
    assert second.export(file_id) == "failed"
    assert "another file" in second.post(other.entity(file_id)).json()["message"]
    assert second.upload(file_id).status_code == 409
    assert store.get(f"meteorpi/files/{file_id}").read() == b"image"


def test_data_that_arrived_and_were_not_described_are_used_or_replaced(store, camera, exporter):
    file_id = camera.file(b"image")
    key = f"meteorpi/files/{file_id}"
    assert exporter.upload(file_id).json() == {"state": "continue"}
    assert facts(store, key) == {
        "md5": camera.files[file_id]["md5"],
        "digest": sha256(b"image"),
    }
    revision = store.record(key).revision
    assert exporter.upload(file_id).json() == {"state": "continue"}
    assert store.record(key).revision == revision
    camera.data[file_id] = b"newer"
    camera.files[file_id]["md5"] = "5e0a4d0b2d9d6e1e5f0cd3b4d2e1a0f9"
    assert exporter.export(file_id) == "confused"  # the MD5 is of nothing
    assert store.get(key).read() == b"image"
    camera.files[file_id]["md5"] = hashlib.md5(b"newer").hexdigest()
    assert exporter.export(file_id) == "complete"
    assert store.get(key).read() == b"newer"


def test_data_whose_process_ended_before_it_noted_their_digest_are_read_again(
    store, camera, exporter
):
    file_id = camera.file(b"image")
    md5 = camera.files[file_id]["md5"]
    store.set(f"meteorpi/files/{file_id}", (b"image", {"meteorpi": {"md5": md5}}))
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    assert exporter.export(file_id) == "complete"
    assert exporter.told == ["complete"]


@pytest.mark.parametrize(("times", "outcome"), [(1, "complete"), (99, "failed")])
def test_steps_that_others_come_between_are_tried_again(
    store, camera, exporter, monkeypatch, times, outcome
):
    event_id = camera.event(camera.file(b"one", file_name=None, meta=[]))
    assert exporter.upload(next(iter(camera.files))).status_code == 200
    exporter.post({"type": "status", "status": camera.statuses[camera.status_id]})
    write, left = MemoryStore._write, [times]

    def busy(self: MemoryStore, key: str, change: Any) -> Any:
        if key.startswith("meteorpi/events/") and left[0]:
            left[0] -= 1
            raise ConflictError("Somebody else was here.", key=key)
        return write(self, key, change)

    monkeypatch.setattr(MemoryStore, "_write", busy)
    assert exporter.export(event_id) == outcome
    [file_key] = store.query_keys(prefix="meteorpi/files/")
    assert ("camera_id" in facts(store, file_key)) is (outcome == "complete")  # all or nothing


# -- several at a time, and who may --------------------------------------------------------------


def test_many_exporters_of_one_event(lab):
    camera = Camera(seed=1)
    event_id = camera.event(camera.file(b"one"), camera.file(bytes(200_000)))
    exporters = [
        Exporter(f"{lab.url}/meteorpi/import", camera, lab.token("camera")) for _ in range(4)
    ]
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: outcomes.append(one.export(event_id)))
        for one in exporters
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # They count together: one of them may be told that it failed, and comes again.
    assert set(outcomes) <= {"complete", "confused", "failed"}
    assert "complete" in outcomes
    assert exporters[0].export(event_id) == "complete"
    assert pending(lab.store) == []
    assert len(facts(lab.store, f"meteorpi/events/{event_id}")["files"]) == 2


def test_the_token_is_the_password(lab):
    camera = Camera(seed=2)
    event_id = camera.event(camera.file(b"one"))
    target = f"{lab.url}/meteorpi/import"
    reader = lab.token("reader", scopes=["read"])
    for token in ("", "kvs_wrong", reader):
        exporter = Exporter(target, camera, token)
        assert exporter.export(event_id) == "failed"
        assert exporter.told == ["403"]
        assert exporter.post({}).json()["state"] == "failed"
        assert exporter.upload(next(iter(camera.files))).status_code == 403
    assert Exporter(target, camera, lab.token("camera")).export(event_id) == "complete"
    assert lab.store.get_permissions(f"meteorpi/events/{event_id}") == {"owned": {"camera"}}


def test_what_another_user_owns_is_neither_seen_nor_touched(lab):
    camera = Camera(seed=3)
    file_id = camera.file(b"one")
    target = f"{lab.url}/meteorpi/import"
    assert Exporter(target, camera, lab.token("camera")).export(file_id) == "complete"
    other = Exporter(target, camera, lab.token("other"))
    assert other.export(file_id) == "confused"
    assert other.told == [*["need_status"] * ASKED, "failed"]
    assert lab.store.get(f"meteorpi/files/{file_id}").read() == b"one"
    assert other.upload(file_id).status_code == 403


def test_in_two_processes(tmp_path):
    words = [f"sqlite:{tmp_path / 'store'}", "--port", "0", "--workers", "2"]
    command = [sys.executable, "-m", "kvstore", "serve", *words, "--gateway", "meteorpi"]
    with running(command, r"(http://\S+)", cwd=ROOT) as match:
        camera = Camera(seed=4)
        exporter = Exporter(f"{match[1]}/meteorpi/import", camera)
        exporter.web.headers["Connection"] = "close"  # to whichever process takes the next one
        file_ids = [camera.file(b"%d" % number) for number in range(8)]
        bad = camera.file(b"right")
        camera.data[bad] = b"wrong"
        assert exporter.export(camera.event(*file_ids)) == "complete"
        assert len(exporter.told) == 18
        assert exporter.export(bad) == "confused"
        assert len(exporter.told) == 18 + 2 * ASKED + 1


@pytest.mark.timeout(400)
def test_the_published_exporter(lab, tmp_path):
    programs = installed("meteorpi", PEER)
    camera = Camera(seed=5)
    paths = {}
    event_id = camera.event(camera.file(b"one"), camera.file(bytes(300_000)))
    empty_id, bad = camera.file(b""), camera.file(b"right")
    for file_id, data in camera.data.items():
        path = tmp_path / file_id
        path.write_bytes(b"wrong" if file_id == bad else data)
        paths[file_id] = str(path)
    given = as_input(
        camera,
        paths,
        target=f"{lab.url}/meteorpi/import",
        user="camera",
        password=lab.token("camera"),
        tasks=[["event", event_id], ["event", event_id], ["file", empty_id], ["file", bad]],
    )
    script = Path(__file__).with_name("meteorpi_exporter.py")
    done = subprocess.run(
        [programs / "python", script], input=given, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    complete = [{"state": "complete", "requests": count} for count in (7, 1, 3)]
    assert told["outcomes"] == [*complete, {"state": "confused", "requests": 2 * ASKED + 1}]
    assert told["done"] == [0, 1, 2]
    for file_id in camera.events[event_id]["files"]:
        key = f"meteorpi/files/{file_id['file_id']}"
        assert lab.store.get(key).read() == camera.data[file_id["file_id"]]
        assert facts(lab.store, key)["type"] == "file"
    assert facts(lab.store, f"meteorpi/events/{event_id}")["event_type"] == "meteorpi:meteor"
    assert not lab.store.exists(f"meteorpi/files/{bad}")
