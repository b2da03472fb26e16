from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from kvstore.cli import reading
from kvstore.errors import KeyNotFoundError
from kvstore.stores.memory import MemoryStore
from kvstore.testing.odd_keys import ODD_KEYS
from tests.cases import each

FIELDS = {"exposure": 30, "filter": "B", "tags": ["a", "b"]}


@pytest.fixture
def filled(store):
    with store:
        store.set("sky/m31", b"0123456789", metadata=FIELDS, mimetype="image/fits")
        store.set("sky/m33", b"", metadata={"exposure": 1.5, "limit": 3})
        store.set("sun", b"text\n")
    return store


def ndjson(text):
    return [json.loads(line) for line in text.splitlines()]


# -- ls --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ["sky/m31", "sky/m33", "sun"]),
        (["sky/"], ["sky/m31", "sky/m33"]),
        (["sky/m31"], ["sky/m31"]),
        (["nix"], []),
        (["--limit", "2"], ["sky/m31", "sky/m33"]),
        (["--limit", "0"], []),
        (["s", "--limit", "1"], ["sky/m31"]),
    ],
)
def test_ls_prints_keys_one_a_line(filled, ok, words, keys):
    assert ok("ls", "memory:", *words).splitlines() == keys
    assert ndjson(ok("ls", "memory:", *words, "--json")) == [{"key": key} for key in keys]
    assert ok("ls", "memory:", *words, "--null") == "".join(f"{key}\0" for key in keys)


def test_a_long_ls_has_the_facts(filled, ok):
    with filled:
        value = filled.get("sky/m31")
    first, *_ = ok("ls", "memory:", "-l").splitlines()
    key, size, modified, mimetype, revision = first.split("\t")
    assert (key, size, mimetype, revision) == ("sky/m31", "10", "image/fits", value.revision)
    assert modified.endswith("Z")
    assert ndjson(ok("ls", "memory:", "sky/m31", "--long", "--json")) == [
        {
            "key": "sky/m31",
            "size": 10,
            "created": value.created,
            "modified": value.modified,
            "mimetype": "image/fits",
            "revision": value.revision,
            "digest": value.digest,
        }
    ]


def test_odd_keys_stay_lines_and_come_out_exactly(store, run):
    with store:
        for key in ODD_KEYS.values():
            store.set(key, b"")
    keys = sorted(ODD_KEYS.values())
    result = run("ls", "memory:")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(keys)
    assert "\x1b" not in result.stdout
    assert "shown escaped" in result.stderr
    for options in (["ls", "memory:"], ["query", "memory:"]):
        assert [row["key"] for row in ndjson(run(*options, "--json").stdout)] == keys
        assert run(*options, "-0").stdout_bytes == b"".join(key.encode() + b"\0" for key in keys)


@each("key", ODD_KEYS.values(), ids=ODD_KEYS)
def test_odd_keys_can_be_named(stores, run, key):
    with stores["memory:"] as store:
        store.set(key, b"data", metadata={"a": 1})
    assert run("get", "memory:", "--", key).stdout == "data"
    assert run("meta", "--store", "memory:", "--", key).stdout == "a\t1\n"


# -- get -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "data"),
    [
        ([], "0123456789"),
        (["-o", "-"], "0123456789"),
        (["--range", "2:5"], "234"),
        (["--range", "7:"], "789"),
        (["--range", ":3"], "012"),
        (["--range", ":"], "0123456789"),
        (["--range", "3:99"], "3456789"),
        (["--range", "10:"], ""),
    ],
)
def test_get_prints_the_data_or_a_part(filled, ok, words, data):
    assert ok("get", "memory:", "sky/m31", *words) == data


@pytest.mark.parametrize(("words", "data"), [([], b"0123456789"), (["--range", "2:5"], b"234")])
def test_get_saves_to_a_file(filled, ok, tmp_path, words, data):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(0o640)
    assert (
        ok("get", "memory:", "sky/m31", "-o", str(target), *words)
        == f"sky/m31\t{len(data)}\t{target}\n"
    )
    assert target.read_bytes() == data
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    told = json.loads(ok("get", "memory:", "sky/m31", "-o", str(target), *words, "--json"))
    assert told == {"key": "sky/m31", "size": len(data), "file": str(target)}
    assert list(tmp_path.iterdir()) == [target]


def test_get_writes_through_links_and_devices(filled, ok, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    ok("get", "memory:", "sky/m31", "-o", str(link))
    assert real.read_bytes() == b"0123456789"
    assert link.is_symlink()
    assert ok("get", "memory:", "sky/m31", "-o", "/dev/null") == "sky/m31\t10\t/dev/null\n"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_is_not_touched_where_there_is_no_key(filled, refused, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    assert refused(3, "get", "memory:", "nix", "-o", str(target)) == "There is no key 'nix'."
    assert target.read_bytes() == b"old"


def test_an_interrupted_get_leaves_the_file_as_it_was(filled, refused, tmp_path, monkeypatch):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading.Transfers, "of", lambda self, label: interrupt)
    target = tmp_path / "out"
    target.write_bytes(b"old")
    assert refused(130, "get", "memory:", "sky/m31", "-o", str(target)) == "Interrupted."
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--range", "5"], 2, "A range is START:END"),
        (["--range", "-5:"], 2, "A range is START:END"),
        (["--range", "5:2"], 1, "The range ends at 2, before its start 5."),
        (["--range", "11:"], 1, "The range begins at 11, behind the data of 10 bytes."),
        (["--json"], 2, "With --json the data goes to a file: add -o FILE"),
        (["-o", "/nowhere/out"], 1, "No such file or directory"),
    ],
)
def test_get_refuses_what_makes_no_sense(filled, refused, words, code, complaint):
    assert refused(code, "get", "memory:", "sky/m31", *words).startswith(complaint)


@pytest.fixture
def revisions(stores):
    """Those of the key ``k``, the oldest first; its data was "0", "01", "012"."""
    stores["memory:"] = MemoryStore(keep_versions=2)
    with stores["memory:"] as store:
        return [store.set("k", b"012"[:end]) for end in (1, 2, 3)]


def test_get_takes_an_earlier_version(revisions, ok, refused, tmp_path):
    assert [ok("get", "memory:", "k", "--version", r) for r in revisions] == ["0", "01", "012"]
    assert ok("get", "memory:", "k", "--version", revisions[1], "--range", "1:9") == "1"
    target = tmp_path / "out"
    told = ok("get", "memory:", "k", "--version", revisions[1], "-o", str(target))
    assert told == f"k\t2\t{target}\n"
    assert target.read_bytes() == b"01"
    message = refused(3, "get", "memory:", "k", "--version", "nix", "-o", str(target))
    assert message == "There is no version 'nix' of the key 'k'."
    assert target.read_bytes() == b"01"


# -- query -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ["sky/m31", "sky/m33", "sun"]),
        (["exposure=30"], ["sky/m31"]),
        (["exposure=30.0", "filter=B"], ["sky/m31"]),
        (['tags=["a","b"]'], ["sky/m31"]),
        (['exposure="30"'], []),
        (["limit=3"], ["sky/m33"]),
        (["limit=3", "exposure=1.5"], ["sky/m33"]),
        (["limit=4"], []),
        (["--where", '{"exposure": {"ge": 1}}'], ["sky/m31", "sky/m33"]),
        (["limit=3", "--where", '{"exposure": {"ge": 2}}'], []),
        (["--prefix", "sky/"], ["sky/m31", "sky/m33"]),
        (["--glob", "*3?"], ["sky/m31", "sky/m33"]),
        (["--order", "-exposure"], ["sky/m31", "sky/m33", "sun"]),
        (["--order", "exposure", "--limit", "1"], ["sky/m33"]),
    ],
)
def test_query_finds(filled, ok, words, keys):
    assert [row["key"] for row in ndjson(ok("query", "memory:", *words, "--json"))] == keys
    assert ok("query", "memory:", *words, "--null") == "".join(f"{key}\0" for key in keys)
    assert [line.split("\t")[0] for line in ok("query", "memory:", *words).splitlines()] == keys
    if not {"--limit", "--order"} & set(words):
        assert ok("query", "memory:", *words, "--count") == f"{len(keys)}\n"
        assert json.loads(ok("query", "memory:", *words, "--count", "--json")) == {
            "count": len(keys)
        }


@pytest.mark.parametrize(
    "name",
    [
        "not",
        "all",
        "any",
        "select",
        "where",
        "prefix",
        "glob",
        "order_by",
        "limit",
        "after",
        "self",
        "count",
    ],
)
def test_fields_of_any_name_can_be_asked_for(store, ok, name):
    with store:
        store.set("yes", b"", metadata={name: 1})
        store.set("no", b"", metadata={name: 2})
    assert ok("query", "memory:", f"{name}=1", "-0") == "yes\0"


def test_query_shows_the_metadata(filled, ok):
    assert (
        ok("query", "memory:", "filter=B")
        == f"sky/m31\t{json.dumps(FIELDS, separators=(',', ':'))}\n"
    )
    assert ndjson(ok("query", "memory:", "filter=B", "--json")) == [
        {"key": "sky/m31", "metadata": FIELDS}
    ]


def test_query_shows_selected_fields_in_the_order_asked_for(filled, ok):
    with filled:
        filled.update_metadata("sky/m31", {"key": "x"})
    assert ok("query", "memory:", "--prefix", "sky", "--select", "key,filter,exposure") == (
        "sky/m31\tx\tB\t30\nsky/m33\t\t\t1.5\n"
    )
    assert ndjson(ok("query", "memory:", "filter=B", "--select", "filter", "--json")) == [
        {"key": "sky/m31", "metadata": {"filter": "B"}}
    ]


def test_a_filter_may_come_from_a_file(filled, ok, tmp_path):
    file = tmp_path / "where.json"
    file.write_text('{"filter": "B"}')
    assert ok("query", "memory:", "--where", f"@{file}", "--null") == "sky/m31\0"
    assert ok("query", "memory:", "--where", "@-", "--null", input='{"filter": "B"}') == "sky/m31\0"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["exposure"], 2, "Fields are given as name=value, not 'exposure'"),
        (["--where", "{"], 2, "The value of --where is no JSON"),
        (["--where", "[]"], 2, "The value of --where is a JSON array, not an object"),
        (["--where", "@/nowhere"], 1, "No such file or directory: '/nowhere'."),
        (["--where", '{"a": {"gee": 1}}'], 1, "There is no filter operator 'gee'"),
        (["--count", "--limit", "0"], 2, "--count goes with none of"),
        (["--count", "--null"], 2, "--count goes with none of"),
        (["--limit", "-1"], 2, "Invalid value for '--limit'"),
    ],
)
def test_query_refuses_what_makes_no_sense(filled, refused, words, code, complaint):
    assert refused(code, "query", "memory:", *words).startswith(complaint)


# -- info ------------------------------------------------------------------------------------


def test_info_tells_of_the_store(filled, ok):
    with filled:
        wanted = filled.info()
    assert json.loads(ok("info", "memory:", "--json")) == wanted
    assert "type\tMemoryStore\n" in ok("info", "memory:")


def test_info_tells_of_a_key(filled, ok):
    with filled:
        value = filled.get("sky/m31")
    told = json.loads(ok("info", "memory:", "sky/m31", "--json"))
    assert told["revision"] == value.revision
    assert told["digest"] == value.digest
    assert "metadata" not in told
    assert f"revision\t{value.revision}\n" in ok("info", "memory:", "sky/m31")


def test_info_of_no_key_is_an_error(filled, refused):
    assert refused(3, "info", "memory:", "nix") == "There is no key 'nix'."


def test_a_key_that_vanishes_while_it_is_read_is_an_error(filled, refused, monkeypatch):
    def gone(key, version=None):
        raise KeyNotFoundError("It went away.")

    monkeypatch.setattr(filled, "get", gone)
    assert refused(3, "get", "memory:", "sun") == "It went away."
