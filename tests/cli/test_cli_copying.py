from __future__ import annotations

import json
import os

import pytest

from kvstore.errors import KeyNotFoundError, StorageFullError
from kvstore.opening import open_store


def contents(store):
    with store:
        return {
            value.key: (value.read(), value.metadata, value.mimetype)
            for value in store.multiget(store.query_keys())
        }


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ["sky/a", "sky/b", "sun"]),
        (["sun", "sky/a"], ["sun", "sky/a"]),
        (["--prefix", "sky/"], ["sky/a", "sky/b"]),
        (["--glob", "*b"], ["sky/b"]),
        (["--prefix", "sky/", "--glob", "*b"], ["sky/b"]),
        (["--prefix", "nix"], []),
    ],
)
def test_cp_copies_data_metadata_and_type(source, target, ok, words, keys):
    told = ok("cp", "memory:", "http://target", *words, "--json").splitlines()
    assert contents(target) == {key: contents(source)[key] for key in keys}
    with target:
        assert [json.loads(line) for line in told] == [
            {
                "key": key,
                "status": "copied",
                "size": target.get(key).size,
                "revision": target.get(key).revision,
            }
            for key in keys
        ]


def test_copies_belong_to_whoever_copies(source, target, ok):
    ok("cp", "memory:", "http://target")
    with target:
        assert target.get_permissions("sun") == {"owned": {"you"}}


def test_cp_replaces_or_skips_what_is_there(source, target, ok):
    with target:
        target.set("sky/b", b"theirs", metadata={"x": 1})
    told = ok("cp", "memory:", "http://target", "--skip-existing").splitlines()
    assert [line.split("\t")[:2] for line in told] == [
        ["sky/a", "copied"],
        ["sky/b", "skipped"],
        ["sun", "copied"],
    ]
    assert contents(target)["sky/b"] == (b"theirs", {"x": 1}, "application/octet-stream")
    ok("cp", "memory:", "http://target")
    assert contents(target) == contents(source)


def test_a_key_made_meanwhile_is_skipped_too(source, target, ok, monkeypatch):
    with target:
        target.set("sun", b"theirs")
    monkeypatch.setattr(target, "exists", lambda key: False)
    told = ok("cp", "memory:", "http://target", "sun", "--skip-existing")
    assert told.split("\t")[:2] == ["sun", "skipped"]
    assert contents(target)["sun"][0] == b"theirs"


def test_a_key_that_is_named_must_be_there(source, target, refused, run):
    assert refused(3, "cp", "memory:", "http://target", "nix") == "There is no key 'nix'."
    result = run("cp", "memory:", "http://target", "sun", "nix")
    assert result.exit_code == 3
    assert result.stderr == "kvstore: There is no key 'nix'. That was 'nix'; copied before it: 1.\n"
    assert list(contents(target)) == ["sun"]


def test_a_key_that_is_listed_may_vanish(source, target, ok, monkeypatch):
    get = source.get

    def vanishing(key):
        if key == "sky/a":
            raise KeyNotFoundError("gone")
        return get(key)

    monkeypatch.setattr(source, "get", vanishing)
    ok("cp", "memory:", "http://target")
    assert sorted(contents(target)) == ["sky/b", "sun"]


def test_a_failure_says_where_it_stopped(source, target, run, monkeypatch):
    write = target.set

    def full(key, *args, **options):
        if key == "sky/b":
            raise StorageFullError("No room is left.")
        return write(key, *args, **options)

    monkeypatch.setattr(target, "set", full)
    result = run("cp", "memory:", "http://target")
    assert result.exit_code == 1
    assert result.stderr == "kvstore: No room is left. That was 'sky/b'; copied before it: 1.\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Missing argument 'SOURCE'"),
        (["memory:"], "Missing argument 'TARGET'"),
        (["memory:", "target"], "'target' is no store"),
        (["source", "memory:"], "'source' is no store"),
        (["memory:", "http://target", "a", "--prefix", "b"], "Give KEYs, or --prefix and --glob"),
        (["memory:", "http://target", "a", "--glob", "b"], "Give KEYs, or --prefix and --glob"),
    ],
)
def test_cp_refuses_what_makes_no_sense(source, target, refused, words, complaint):
    assert refused(2, "cp", *words).startswith(complaint)


def test_cp_goes_between_folders_and_back(ok, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("file:one") as one:
        one.set("a/b", os.urandom(100_000), metadata={"x": 1}, mimetype="text/csv")
    ok("cp", "./one", "./two")
    ok("cp", "./two", "file:three")
    with open_store("file:one") as one, open_store("file:three") as three:
        assert one.get("a/b").digest == three.get("a/b").digest
        assert three.get_metadata("a/b") == {"x": 1}
    refused(1, "cp", "./nix", "./four")
    assert not (tmp_path / "nix").exists()
