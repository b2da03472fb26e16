from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvstore import MemoryStore
from kvstore.profiles.loading import bundled, bundled_names
from kvstore.testing import live_server
from tests.transport.wire_server import WireServer, answer, as_json, refused_port

SMALL = {"profile": 1, "name": "small", "operations": {"get": {"url": "{base}/{key}"}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


def test_list(ok):
    lines = [line.split("\t") for line in ok("profile", "list").splitlines()]
    assert [line[0] for line in lines] == list(bundled_names())
    assert {line[0]: line[1] for line in lines}["static"] == "no"
    assert {line[0]: line[1] for line in lines}["webdav"] == "yes"
    documents = [json.loads(line) for line in ok("profile", "list", "--json").splitlines()]
    assert documents[0]["operations"] == sorted(bundled("datasafe").operations)


def test_show_prints_what_can_be_read_again(ok, tmp_path):
    for name in bundled_names():
        shown = ok("profile", "show", name)
        assert json.loads(shown) == bundled(name).document
        (tmp_path / "copy.json").write_text(shown)
        assert ok("profile", "check", str(tmp_path / "copy.json")).startswith(name)


def test_check(ok, file):
    assert ok("profile", "check", str(file)) == 'small\tfalse\t["get"]\t\n'
    told = json.loads(ok("profile", "check", str(file), "--json"))
    assert told == {"profile": "small", "writes": False, "operations": ["get"], "description": ""}


def test_check_tells_what_is_wrong_and_where(refused, file, tmp_path):
    file.write_text(
        json.dumps({**SMALL, "operations": {"get": {"url": "{base}/{key}", "verb": "X"}}})
    )
    told = refused(1, "profile", "check", str(file))
    assert "not valid at '/operations/get'" in told
    assert "'verb'" in told
    file.write_text("{")
    assert "is no JSON" in refused(1, "profile", "check", str(file))
    assert "No such file" in refused(1, "profile", "check", str(tmp_path / "none.json"))


def test_names_that_are_none_are_refused(refused):
    assert "There is no profile 'webdaf'" in refused(1, "profile", "show", "webdaf")
    assert "There is no profile" in refused(1, "profile", "probe", "http://h", "--profile", "x")
    assert "No such command" in refused(2, "profile", "delete")
    assert "Missing argument" in refused(2, "profile", "probe")


def test_probe_finds_out_what_fits(run):
    index = as_json({"profile": "static", "keys": [{"key": "a", "metadata": {"n": 1}}]})

    def site(wire):
        wire.body()
        target = wire.seen.target
        wire.send(index if target == "/index.json" else answer(200 if target == "/a" else 404))

    with WireServer(default=site) as server:
        result = run("profile", "probe", server.url, "--json")
        assert {seen.method for seen in server.seen} <= {"GET", "HEAD", "PROPFIND"}
    findings = {found["profile"]: found for found in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0
    assert {name for name, found in findings.items() if found["fits"]} == {"static"}
    assert findings["static"] == {
        "profile": "static",
        "fits": True,
        "exists": "yes",
        "list": "yes",
        "record": "yes",
        "note": "",
    }
    assert "HTTP 404" in findings["filetracker"]["note"]


def test_probe_of_a_server_that_fits_and_fails(run, file):
    operations = {
        **SMALL["operations"],  # type: ignore[dict-item]
        "probe": {"url": "{base}/"},
        "list": {"url": "{base}/list", "listing": {"format": "json", "facts": {"key": "json:"}}},
    }
    file.write_text(json.dumps({**SMALL, "operations": operations}))
    with WireServer([answer(200), answer(404), answer(200, b"no list" * 100)]) as server:
        result = run("profile", "probe", server.url, "--profile", str(file))
    assert result.exit_code == 0
    name, fits, exists, listing, record, note = result.stdout.rstrip("\n").split("\t")
    assert (name, fits, exists, listing, record) == ("small", "yes", "yes", "no", "-")
    assert "no JSON" in note
    assert len(note) <= 200


def test_probe_of_a_server_of_ours(run):
    with MemoryStore() as store, live_server(store) as url:
        store.set("key", b"data")
        result = run("profile", "probe", url)
    lines = [line.split("\t")[:5] for line in result.stdout.splitlines()]
    assert [line for line in lines if line[1] == "yes"] == [["kvstore", "yes", "yes", "yes", "yes"]]


def test_probe_without_a_match_fails(run):
    with WireServer(default=answer(404)) as server:
        result = run("profile", "probe", server.url)
    assert result.exit_code == 1
    assert all(line.split("\t")[1] == "no" for line in result.stdout.splitlines())


def test_probe_where_nobody_is(refused):
    url = f"http://127.0.0.1:{refused_port()}"
    assert "Connection refused" in refused(1, "profile", "probe", url)
