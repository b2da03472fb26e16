"""Folders of files into stores, and stores into folders of files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from kvstore.cli import copying, folders, plain
from kvstore.cli.progress import LARGE
from kvstore.errors import IntegrityError, StorageFullError
from kvstore.events import StoreTransactionEndEvent
from kvstore.opening import open_store
from kvstore.query import Query
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.testing.odd_keys import ODD_KEYS

KEYS = ["a.csv", "a/b.txt", "a/b/c", "z.tar.gz"]


@pytest.fixture
def files(tmp_path):
    """A folder of files that no store has made."""
    root = tmp_path / "files"
    (root / "a" / "b").mkdir(parents=True)
    for key in KEYS:
        (root / key).write_bytes(key.encode() * 10)
    return root


def ndjson(text):
    return [json.loads(line) for line in text.splitlines()]


def contents(store):
    with store:
        return {
            value.key: (value.read(), value.metadata, value.mimetype, value.permissions)
            for value in store.multiget(store.query_keys())
        }


def statuses(text):
    return {row["key"]: row["status"] for row in ndjson(text)}


# -- import ----------------------------------------------------------------------------------


def test_every_file_becomes_a_key(store, ok, files):
    told = ndjson(ok("import", "memory:", str(files), "--json"))
    assert contents(store) == {
        "a.csv": (b"a.csv" * 10, {}, "text/csv", {"owned": {"me"}}),
        "a/b.txt": (b"a/b.txt" * 10, {}, "text/plain", {"owned": {"me"}}),
        "a/b/c": (b"a/b/c" * 10, {}, "application/octet-stream", {"owned": {"me"}}),
        "z.tar.gz": (b"z.tar.gz" * 10, {}, "application/octet-stream", {"owned": {"me"}}),
    }
    with store:
        assert told == [
            {
                "key": key,
                "status": "imported",
                "size": len(key) * 10,
                "revision": store.get(key).revision,
            }
            for key in KEYS
        ]


def test_keys_may_get_a_prefix(store, ok, files):
    ok("import", "memory:", str(files), "--prefix", "in/")
    assert list(contents(store)) == [f"in/{key}" for key in KEYS]


def test_metadata_lies_beside_a_file(store, ok, files):
    (files / "a.csv.meta.json").write_text('{"exposure": 30, "tags": ["a"]}')
    (files / "a" / "b" / "c.meta.json").write_text('{"key": 1, "metadata": {"x": 1}}')
    ok("import", "memory:", str(files))
    found = contents(store)
    assert list(found) == KEYS
    assert found["a.csv"][1:3] == ({"exposure": 30, "tags": ["a"]}, "text/csv")
    assert found["a/b/c"][1] == {"key": 1, "metadata": {"x": 1}}


def test_a_sidecar_of_a_store_has_more_than_metadata(store, ok, files, tmp_path):
    with open_store(f"file:{tmp_path / 'store'}") as other:
        other.set("a.csv", b"", metadata={"one": 1}, mimetype="text/x-mine")
        other.set_permissions("a.csv", {"owned": {"ann"}, "read": {"bob"}})
    (tmp_path / "store" / "a.csv.meta.json").rename(files / "a.csv.meta.json")
    ok("import", "memory:", str(files))
    assert contents(store)["a.csv"] == (
        b"a.csv" * 10,
        {"one": 1},
        "text/x-mine",
        {"owned": {"ann"}, "read": {"bob"}},
    )


def test_a_sidecar_of_no_file_is_a_file(store, ok, files):
    (files / "gone.meta.json").write_text('{"one": 1}')
    ok("import", "memory:", str(files))
    assert contents(store)["gone.meta.json"][0] == b'{"one": 1}'


def test_what_is_no_plain_file_is_left_out_and_told(store, run, files, tmp_path):
    (files / ".hidden").write_bytes(b"")
    (files / ".folder").mkdir()
    (files / ".folder" / "file").write_bytes(b"")
    (files / "link").symlink_to(files / "a.csv")
    (files / "around").symlink_to(files)
    (files / "link.meta.json").write_text("{}")
    (files / "elsewhere.json").write_text('{"one": 1}')
    (files / "a.csv.meta.json").symlink_to(files / "elsewhere.json")
    os.mkfifo(files / "pipe")
    for scheme in ("file", "sqlite"):
        with open_store(f"{scheme}:{files / scheme}") as other:
            other.set("a", b"")
    result = run("import", "memory:", str(files))
    assert result.exit_code == 0
    assert list(contents(store)) == sorted([*KEYS, "elsewhere.json"])
    assert contents(store)["a.csv"][1] == {}
    assert result.stderr == (
        "kvstore: Left out: 2 hidden, 1 special file, 2 stores, 3 symbolic links.\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad\udcff", b"", "A key holds no lone surrogate"),
        ("n" * 200, b"", "A key has at most 1024 bytes"),
        ("a.csv.meta.json", b"{", "The sidecar "),
        ("a.csv.meta.json", b"[]", "is a JSON array, not an object"),
        ("a.csv.meta.json", b'{"a": 1, "a": 2}', "occurs twice"),
        ("a.csv.meta.json", json.dumps({"a": "x" * (1 << 20)}).encode(), "Metadata has at most"),
    ],
)
def test_what_cannot_be_stored_is_told_and_keeps_nothing_else_out(
    store, run, files, name, content, reason
):
    (files / name).write_bytes(content)
    prefix = "p" * 1020 if len(name) == 200 else ""
    if prefix:
        for key in KEYS:
            (files / key).unlink()
        (files / "x").write_bytes(b"")
    bad = name.removesuffix(".meta.json")
    result = run("import", "memory:", str(files), "--prefix", prefix, "--json")
    assert result.exit_code == 1
    told = statuses(result.stdout)
    assert told.pop(prefix + bad) == "failed"
    assert set(told.values()) == {"imported"}
    assert list(contents(store)) == list(told)
    assert result.stderr.startswith(f"kvstore: Not imported: {bad!a}: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_permissions_that_make_no_sense_are_told_before_anything_is_written(store, run, files):
    sidecar = dict.fromkeys(plain._STORED, "x")
    sidecar |= {"metadata": {}, "permissions": {"read": ["bob"]}}
    (files / "a.csv.meta.json").write_text(json.dumps(sidecar))
    result = run("import", "memory:", str(files))
    assert result.exit_code == 1
    assert "hold 'owned' with at least one tag" in result.stderr
    assert "a.csv" not in contents(store)


def test_a_folder_that_cannot_be_listed_is_told(store, run, files, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("a/b/"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(plain.os, "scandir", refusing)
    result = run("import", "memory:", str(files))
    assert result.exit_code == 1
    assert result.stderr == (
        f"kvstore: Not imported: Permission denied: {str(files / 'a' / 'b') + '/'!r}.\n"
    )
    assert list(contents(store)) == ["a.csv", "a/b.txt", "z.tar.gz"]


def test_a_file_that_cannot_be_read_is_told(store, run, files, monkeypatch):
    class Shrinking(plain._Opener):
        def __call__(self, start, end):
            if self._key == "a.csv":
                Path(self._path).write_bytes(b"less")
            return super().__call__(start, end)

    monkeypatch.setattr(plain, "_Opener", Shrinking)
    result = run("import", "memory:", str(files), "--json")
    assert result.exit_code == 1
    assert statuses(result.stdout)["a.csv"] == "failed"
    assert "The data ended 46 bytes before its 50" in result.stderr
    assert list(contents(store)) == KEYS[1:]


def test_a_file_that_vanishes_meanwhile_is_no_error(store, ok, files, monkeypatch):
    entries = plain.PlainFolder._entries

    def vanishing(self, path):
        found = entries(self, path)
        (files / "a.csv").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(plain.PlainFolder, "_entries", vanishing)
    ok("import", "memory:", str(files))
    assert list(contents(store)) == KEYS[1:]


# -- import again ----------------------------------------------------------------------------


def test_an_update_leaves_alone_what_is_the_same(store, ok, files):
    ok("import", "memory:", str(files))
    with store:
        newest = store.sequence()
    told = ok("import", "memory:", str(files), "--update", "--json")
    assert statuses(told) == dict.fromkeys(KEYS, "skipped")
    with store:
        assert store.sequence() == newest
    told = ok("import", "memory:", str(files), "--json")
    assert statuses(told) == dict.fromkeys(KEYS, "imported")
    with store:
        assert store.sequence() == newest + len(KEYS)


def change_size(files, store):
    (files / "a.csv").write_bytes(b"more" * 100)


def change_data(files, store):
    (files / "a.csv").write_bytes(b"A.CSV" * 10)


def change_metadata(files, store):
    (files / "a.csv.meta.json").write_text('{"one": true}')


def change_store_metadata(files, store):
    store.set_metadata("a.csv", {})


def change_store_mimetype(files, store):
    store.set("a.csv", files / "a.csv", metadata={"one": 1}, mimetype="text/x-mine")


def delete_in_store(files, store):
    store.delete("a.csv")


@pytest.mark.parametrize(
    "change",
    [
        *(change_size, change_data, change_metadata),
        *(change_store_metadata, change_store_mimetype, delete_in_store),
    ],
)
def test_an_update_sets_what_differs(store, ok, files, change):
    (files / "a.csv.meta.json").write_text('{"one": 1}')
    ok("import", "memory:", str(files))
    with store:
        change(files, store)
    told = statuses(ok("import", "memory:", str(files), "--update", "--json"))
    assert told.pop("a.csv") == "imported"
    assert set(told.values()) == {"skipped"}
    data, metadata, mimetype, _ = contents(store)["a.csv"]
    assert data == (files / "a.csv").read_bytes()
    assert json.dumps(metadata) == (files / "a.csv.meta.json").read_text()
    assert mimetype == "text/csv"


def test_an_update_of_a_key_without_digest_sets_it(ok, files, tmp_path):
    url = f"file:{tmp_path / 'store'}"
    ok("import", url, str(files))
    (tmp_path / "store" / "a.csv").write_bytes(b"A.CSV" * 10)  # by another tool: no digest
    told = statuses(ok("import", url, str(files), "--update", "--json"))
    assert told.pop("a.csv") == "imported"
    assert set(told.values()) == {"skipped"}


# -- transactions ----------------------------------------------------------------------------


@pytest.fixture
def transactions(store):
    """States of the transactions of the store, as they end."""
    ended = []
    store.events.connect(StoreTransactionEndEvent, lambda event: ended.append(event.state))
    return ended


def test_files_are_stored_many_at_a_time(store, ok, files, transactions, monkeypatch):
    ok("import", "memory:", str(files))
    assert transactions == ["done"]
    monkeypatch.setattr(folders, "_BATCH", 2)
    ok("import", "memory:", str(files))
    assert transactions == ["done"] * 3


def test_large_files_keep_nobody_else_from_writing(store, ok, files, transactions, monkeypatch):
    monkeypatch.setattr(copying, "_BATCH_BYTES", 69)
    ok("import", "memory:", str(files))
    assert list(contents(store)) == KEYS
    assert transactions == []
    monkeypatch.setattr(copying, "_BATCH_BYTES", 120)
    ok("import", "memory:", str(files))
    assert transactions == ["done"]  # of 50 and 70 bytes; then of 50; then of 80


def test_a_store_that_is_full_ends_it(store, run, files, transactions, monkeypatch):
    monkeypatch.setattr(folders, "_BATCH", 2)
    write = store.set

    def full(key, *args, **options):
        if key == KEYS[3]:
            raise StorageFullError("No room is left.")
        return write(key, *args, **options)

    monkeypatch.setattr(store, "set", full)
    result = run("import", "memory:", str(files), "--json")
    assert result.exit_code == 1
    assert statuses(result.stdout) == dict.fromkeys(KEYS[:2], "imported")
    assert result.stderr == (
        "kvstore: No room is left. That was 'z.tar.gz'; copied before it: 2.\n"
    )
    assert transactions == ["done", "failed"]
    assert list(contents(store)) == KEYS[:2]


# -- from a store in the folder --------------------------------------------------------------


@pytest.fixture
def library(tmp_path):
    """The URL of a store with keys that make no file names, metadata and permissions."""
    url = f"sqlite:{tmp_path / 'library'}"
    with open_store(url) as store:
        for number, key in enumerate(ODD_KEYS.values()):
            store.set(key, key.encode(), metadata={"number": number}, mimetype="text/x-odd")
            if number % 2:
                store.set_permissions(key, {"owned": {"ann"}, "read": {"bob"}})
    return url


def test_what_is_exported_comes_back_as_it_was(library, ok, run, tmp_path):
    folder = str(tmp_path / "out")
    told = statuses(run("export", library, folder, "--json").stdout)
    assert told == dict.fromkeys(sorted(ODD_KEYS.values()), "exported")
    back = f"sqlite:{tmp_path / 'back'}"
    assert set(statuses(run("import", back, folder, "--json").stdout).values()) == {"imported"}
    assert contents(open_store(back)) == contents(open_store(library))
    told = statuses(run("import", back, folder, "--update", "--json").stdout)
    assert set(told.values()) == {"skipped"}


@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_a_folder_that_is_a_store_is_copied_as_one(ok, tmp_path, scheme):
    source = tmp_path / "source"
    with open_store(f"{scheme}:{source}") as store:
        store.set("notes", b"data", metadata={"one": 1}, mimetype="text/x-mine")
        store.update_permissions("notes", {"read": {"bob"}})
        store.set("other", b"")
    target = f"sqlite:{tmp_path / 'target'}"
    ok("import", target, str(source), "--prefix", "in/")
    assert contents(open_store(target)) == {
        "in/notes": (b"data", {"one": 1}, "text/x-mine", {"owned": {"local"}, "read": {"bob"}}),
        "in/other": (b"", {}, "application/octet-stream", {"owned": {"local"}}),
    }
    with open_store(target) as store:
        assert store.sequence() == 3  # what has the permissions of a new key is written once
    with open_store(f"{scheme}:{source}") as store:
        store.set_permissions("notes", {"owned": {"ann"}})
    told = ok("import", target, str(source), "--prefix", "in/", "--update", "--json")
    assert statuses(told) == {"in/notes": "imported", "in/other": "skipped"}
    with open_store(target) as store:
        assert store.get_permissions("in/notes") == {"owned": {"ann"}}


def test_a_key_whose_sidecar_is_damaged_keeps_no_other_out(run, tmp_path):
    with open_store(f"file:{tmp_path / 'source'}") as store:
        store.set("a.x", b"a")
        store.set("b.x", b"b")
    (tmp_path / "source" / "a.x.meta.json").write_text("{")
    target = f"sqlite:{tmp_path / 'target'}"
    result = run("import", target, str(tmp_path / "source"), "--json")
    assert result.exit_code == 1
    assert statuses(result.stdout) == {"a.x": "failed", "b.x": "imported"}
    assert result.stderr.startswith("kvstore: Not imported: 'a.x': The sidecar 'a.x.meta.json'")


def test_a_key_that_is_changed_while_it_is_copied_is_told(run, tmp_path, monkeypatch):
    source = FileSystemStore(tmp_path / "source")
    with source:
        source.set("a", bytes(100_000))
        source.set("b", b"b")
    get = FileSystemStore.get

    def changed(self, key, **options):
        value = get(self, key, **options)
        if key == "a":
            self.set("a", b"new")
        return value

    monkeypatch.setattr(FileSystemStore, "get", changed)
    target = f"sqlite:{tmp_path / 'target'}"
    result = run("import", target, str(tmp_path / "source"), "--json")
    assert result.exit_code == 1
    assert statuses(result.stdout) == {"a": "failed", "b": "imported"}
    assert "has been changed since it was read" in result.stderr


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["sqlite:new"], 2, "Missing DIR"),
        (["files", "sqlite:new"], 2, "'files' is no store"),
        (["./files", "sqlite:new"], 2, "DIR is the path of a folder, and comes last; 'sqlite:new'"),
        (["sqlite:new", "http://host"], 2, "DIR is the path of a folder, and comes last"),
        (["sqlite:new", "nix"], 1, "No such file or directory: 'nix'."),
        (["sqlite:new", "files/a.csv"], 1, "Not a directory: 'files/a.csv'."),
        (["./files", "old"], 1, "The folder '{here}/files' has other files in it"),
        (["sqlite:files", "files"], 2, "The folder 'files' is that of the store, or in it"),
        (["sqlite:files", "files/a"], 2, "The folder 'files/a' is that of the store, or in it"),
        (["./old", "old/../old"], 2, "The folder 'old/../old' is that of the store"),
    ],
)
def test_import_refuses_what_makes_no_sense_and_makes_nothing(
    refused, files, tmp_path, monkeypatch, words, code, complaint
):
    monkeypatch.chdir(tmp_path)
    with open_store("file:old") as store:
        store.set("a", b"")
    before = sorted(tmp_path.rglob("*"))
    message = refused(code, "import", *words)
    assert message.startswith(complaint.format(here=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_store_may_come_from_the_environment(ok, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ok("import", "files", env={"KVSTORE_URL": "sqlite:new"})
    ok("import", "--store", "sqlite:newer", "./files")
    assert contents(open_store("sqlite:new")) == contents(open_store("sqlite:newer"))
    assert list(contents(open_store("sqlite:new"))) == KEYS


# -- export ----------------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    with store:
        store.set("sky/m31.fits", b"31", metadata={"exposure": 30}, mimetype="image/fits")
        store.set("sky/m33", b"33", metadata={"exposure": 1})
        store.set("sun", b"", metadata={"exposure": 30})
    return store


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ["sky/m31.fits", "sky/m33", "sun"]),
        (["--prefix", "sky/"], ["sky/m31.fits", "sky/m33"]),
        (["--where", '{"exposure": 30}'], ["sky/m31.fits", "sun"]),
        (["--prefix", "sky/", "--where", '{"exposure": 30}'], ["sky/m31.fits"]),
        (["--prefix", "nix"], []),
    ],
)
def test_keys_become_files_with_their_metadata_beside_them(filled, ok, tmp_path, words, keys):
    out = tmp_path / "out"
    told = ndjson(ok("export", "memory:", str(out), *words, "--json"))
    with open_store(f"file:{out}") as other:
        assert told == [
            {
                "key": value.key,
                "status": "exported",
                "size": value.size,
                "revision": value.revision,
            }
            for value in other.multiget(keys)
        ]
    assert contents(open_store(f"file:{out}")) == {key: contents(filled)[key] for key in keys}
    if "sky/m31.fits" in keys:
        assert (out / "sky" / "m31.fits").read_bytes() == b"31"
        sidecar = json.loads((out / "sky" / "m31.fits.meta.json").read_text())
        assert sidecar["metadata"] == {"exposure": 30}
        assert sidecar["permissions"] == {"owned": ["me"]}


def test_export_takes_an_empty_folder_or_a_store_of_files(filled, ok, tmp_path):
    ok("export", "memory:", str(tmp_path), "--prefix", "sun")
    with filled:
        filled.set("sun", b"new")
    ok("export", "memory:", str(tmp_path))
    assert contents(open_store(f"file:{tmp_path}")) == contents(filled)


def test_a_key_that_cannot_be_read_keeps_no_other_in(filled, run, tmp_path):
    get = filled.get

    def damaged(key):
        if key == "sky/m33":
            raise IntegrityError("The data of 'sky/m33' has another digest.")
        return get(key)

    filled.get = damaged
    result = run("export", "memory:", str(tmp_path / "out"), "--json")
    assert result.exit_code == 1
    assert statuses(result.stdout)["sky/m33"] == "failed"
    assert result.stderr == (
        "kvstore: Not exported: 'sky/m33': The data of 'sky/m33' has another digest.\n"
    )
    del filled.get
    assert list(contents(open_store(f"file:{tmp_path / 'out'}"))) == ["sky/m31.fits", "sun"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["memory:"], 2, "Missing DIR"),
        (["memory:", "files"], 1, "The folder 'files' has other files in it; give one that is"),
        (["memory:", "files/a.csv"], 1, "Not a directory: 'files/a.csv'."),
        (["memory:", "lib"], 1, "The folder 'lib' has other files in it"),
        (["memory:", "file:out"], 2, "DIR is the path of a folder, and comes last"),
        (["sqlite:lib", "lib/out"], 2, "The folder 'lib/out' is that of the store, or in it"),
        (["file:old", "old"], 2, "The folder 'old' is that of the store, or in it"),
        (["memory:", "out", "--where", "{"], 2, "The value of --where is no JSON"),
        (["memory:", "out", "--where", '{"a": {"gee": 1}}'], 1, "There is no filter operator"),
    ],
)
def test_export_refuses_what_makes_no_sense_and_makes_nothing(
    refused, files, tmp_path, monkeypatch, words, code, complaint
):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:lib", "file:old"):
        with open_store(url) as store:
            store.set("a", b"")
    before = sorted(tmp_path.rglob("*"))
    assert refused(code, "export", *words).startswith(complaint)
    assert sorted(tmp_path.rglob("*")) == before


# -- the folder as a store -------------------------------------------------------------------


def test_a_plain_folder_can_be_read_as_every_store_can(files):
    (files / "a.csv.meta.json").write_text('{"one": 1}')
    with plain.PlainFolder(files) as store:
        assert list(store.query_keys()) == KEYS == sorted(KEYS)
        assert list(store.query_keys(prefix="a/", limit=1)) == ["a/b.txt"]
        assert list(store.query_keys(after="a/b.txt")) == ["a/b/c", "z.tar.gz"]
        assert list(store.query(one=1)) == [("a.csv", {"one": 1})]
        assert list(store.query_keys(one=1)) == ["a.csv"]
        assert store.get_data_range("a.csv", 1, 4).read() == b".cs"
        assert store.get("a.csv").modified == (files / "a.csv").stat().st_mtime
        assert not store.exists("nix")
        assert store.size() == 10 * len("".join(KEYS)) == sum(r.size for r in store._query(Query()))


# -- in a terminal ---------------------------------------------------------------------------


def test_people_see_a_bar_and_the_numbers(environment, files, tmp_path):
    terminal = pytest.importorskip("terminal")
    (files / ".hidden").write_bytes(b"")
    (files / "large").write_bytes(bytes(LARGE))
    (files / "a.csv.meta.json").write_text("{}")
    (files / "bad\udcff").write_bytes(b"")
    url = f"sqlite:{tmp_path / 'data'}"

    def look(*words):
        command = [sys.executable, "-m", "kvstore", *words]
        return terminal.run_in_terminal(command, environment)

    shown = look("import", url, str(files))
    assert shown.code == 1
    assert "import ━" in shown.text
    assert "of 4.2 MB" in shown.text
    assert shown.text.splitlines()[-1] == (
        "5 imported, 0 skipped, 2 not imported (1 hidden, 1 failed); 1 sidecar read"
    )
    (files / "bad\udcff").unlink()
    shown = look("import", url, str(files), "--update")
    assert shown.code == 0
    assert shown.text.splitlines()[-1].endswith(
        "0 imported, 5 skipped, 1 not imported (1 hidden); 1 sidecar read"
    )
    shown = look("export", url, str(tmp_path / "out"))
    assert shown.code == 0
    assert shown.text.splitlines()[-1].endswith("5 keys exported, 4.2 MB")


@pytest.fixture
def moves(monkeypatch):
    """Makes transfers visible, and has what they show: label, bytes done, all bytes."""
    shown = []

    class Bars:
        def move(self, *move):
            shown.append(move)

    monkeypatch.setattr(folders._Whole, "_is_worth_it", lambda self, total: True)
    monkeypatch.setattr(folders._Whole, "_shown", lambda self: Bars())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    return shown


@pytest.mark.parametrize("source", [plain.PlainFolder, FileSystemStore])
def test_the_bar_of_an_import_counts_each_byte_once(files, tmp_path, moves, source):
    if source is FileSystemStore:
        with open_store(f"file:{tmp_path / 'store'}") as store:
            store.multiset(KEYS, [files / key for key in KEYS])
        files = tmp_path / "store"
    transfers = folders._Whole("import", 250)
    rules = copying.Rules(existing="update", batch=200)
    with MemoryStore() as new, source(files) as old:
        new.set("a.csv", old.get("a.csv"))  # the same
        new.set("a/b.txt", b"another" * 10, mimetype=old.get("a/b.txt").mimetype)  # as long
        told = list(copying.Copy(old, new, transfers, rules).found(old.query_keys()))
    assert [row["status"] for row in told] == ["skipped", "copied", "copied", "copied"]
    assert {(move[0], move[2]) for move in moves} == {("import", 250)}
    assert max(move[1] for move in moves) == moves[-1][1] == 250
