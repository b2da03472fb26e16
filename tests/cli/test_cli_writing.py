from __future__ import annotations

import json

import pytest


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "m31.fits"
    file.write_bytes(b"SIMPLE")
    return str(file)


def test_set_stores_a_file_with_fields(store, ok, file):
    told = ok(
        "set",
        "memory:",
        "sky/m31",
        file,
        "-m",
        "exposure=30",
        "-m",
        'tags=["a"]',
        "-m",
        "title=M31",
    )
    with store:
        value = store.get("sky/m31")
    assert told == f"sky/m31\t{value.revision}\n"
    assert value.read() == b"SIMPLE"
    assert value.metadata == {"exposure": 30, "tags": ["a"], "title": "M31"}
    assert value.mimetype == "image/fits"


def test_set_reads_the_standard_input(store, ok):
    told = json.loads(ok("set", "memory:", "a", "-", "--json", input=b"\x00\xff\n"))
    with store:
        assert store.to_bytes("a") == b"\x00\xff\n"
        assert told == {"key": "a", "revision": store.get("a").revision}
        assert store.get("a").mimetype == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("a.csv", "text/csv"),
        ("a.JPG", "image/jpeg"),
        ("a.json", "application/json"),
        ("a.nc", "application/x-netcdf"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_type_is_told_by_the_name_of_the_file(store, ok, tmp_path, name, mimetype):
    (tmp_path / name).write_bytes(b"")
    ok("set", "memory:", "key", str(tmp_path / name))
    ok("set", "memory:", "other", str(tmp_path / name), "--mimetype", "text/x-mine")
    with store:
        assert store.get("key").mimetype == mimetype
        assert store.get("other").mimetype == "text/x-mine"


def test_metadata_is_kept_unless_some_is_given(store, ok, file):
    ok("set", "memory:", "a", file, "-m", "one=1", "-m", "two=2")
    ok("set", "memory:", "a", "-", input="new")
    with store:
        assert store.get_metadata("a") == {"one": 1, "two": 2}
        assert store.to_bytes("a") == b"new"
    ok("set", "memory:", "a", file, "-m", "one=3")
    with store:
        assert store.get_metadata("a") == {"one": 3}
    ok("set", "memory:", "a", file, "--metadata", "{}")
    with store:
        assert store.get_metadata("a") == {}


def test_metadata_may_come_from_a_file_with_fields_beside_it(store, ok, file, tmp_path):
    document = tmp_path / "m.json"
    document.write_text('{"one": 1, "two": 2}')
    ok("set", "memory:", "a", file, "--metadata", f"@{document}", "-m", "two=3")
    with store:
        assert store.get_metadata("a") == {"one": 1, "two": 3}


def test_set_may_be_for_new_keys_only(store, ok, refused, file):
    ok("set", "memory:", "a", file, "--create")
    assert "exists already" in refused(4, "set", "memory:", "a", "-", "--create", input="new")
    with store:
        assert store.to_bytes("a") == b"SIMPLE"


def test_set_may_be_for_one_revision_only(store, ok, refused, file):
    first = ok("set", "memory:", "a", file).split()[1]
    ok("set", "memory:", "a", "-", "--if-match", first, input="new")
    assert "is at revision" in refused(4, "set", "memory:", "a", file, "--if-match", first)
    with store:
        assert store.to_bytes("a") == b"new"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["nowhere"], 1, "No such file or directory: 'nowhere'."),
        (["."], 1, "Is a directory: '.'."),
        (["-", "-m", "a"], 2, "Fields are given as name=value"),
        (["-", "--metadata", "[1]"], 2, "The value of --metadata is a JSON array"),
        (["-", "--metadata", '{"a": 1e999}'], 2, "The value of --metadata is no JSON"),
        (["-", "--mimetype", "é"], 1, "A media type is"),
        (["-", "--create", "--if-match", "1"], 2, "--create and --if-match exclude each other"),
    ],
)
def test_set_refuses_what_cannot_be_stored(store, run, words, code, complaint):
    result = run("set", "memory:", "a", *words)
    assert result.exit_code == code
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"kvstore: {complaint}")
    with store:
        assert store.count() == 0


@pytest.fixture
def three(store):
    with store:
        for key in "abc":
            store.set(key, b"")
    return store


def left(store):
    with store:
        return "".join(store.query_keys())


def test_rm_removes_keys(three, ok):
    assert ok("rm", "memory:", "a", "c", "a") == "a\nc\n"
    assert left(three) == "b"
    assert json.loads(ok("rm", "memory:", "b", "--json")) == {"key": "b"}
    assert left(three) == ""


def test_rm_removes_nothing_if_one_is_not_there(three, refused):
    assert refused(3, "rm", "memory:", "a", "nix", "c") == "There is no key 'nix'."
    assert left(three) == "abc"


def test_rm_may_take_missing_keys_for_removed(three, ok):
    assert ok("rm", "memory:", "a", "nix", "--missing-ok") == "a\n"
    assert left(three) == "bc"


def test_rm_may_be_for_one_revision_only(three, ok, refused):
    with three:
        revision = three.get("a").revision
        three.update_metadata("a", {"b": 1})
    assert "is at revision" in refused(4, "rm", "memory:", "a", "--if-match", revision)
    with three:
        revision = three.get("a").revision
    ok("rm", "memory:", "a", "--if-match", revision)
    assert left(three) == "bc"
    assert refused(2, "rm", "memory:", "b", "c", "--if-match", "x").startswith(
        "--if-match is for one KEY"
    )
