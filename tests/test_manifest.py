"""Manifests: built, read, written, verified; and what is made of YAML that was sent to do harm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from types import MappingProxyType

import pytest
import yaml
from click.testing import CliRunner

from kvstore import KeyNotFoundError, MemoryStore, ReadOnly, SQLiteStore
from kvstore.cli.main import cli
from kvstore.cli.output import Output
from kvstore.errors import InvalidRequestError, TooLargeError
from kvstore.manifest import (
    FILE_NAME,
    MAX_BYTES,
    FolderFiles,
    Manifest,
    MetadataFile,
    StoreFiles,
    Verification,
    build,
    check,
    checksum_of,
    read,
    sums_of,
    verify,
    write,
)
from kvstore.manifest.yamltext import parse_yaml
from tests.cases import each

LOI = "42.1001/ds/exp/sa/42/cwepr/1"
INFO = b"cwEPR Info file - v. 0.1.4 (2020-01-21)\n"
FILES = {
    "run.dat": b"data",
    "run.info": INFO,
    "more.yaml": b"format:\n  type: notes\n  version: 1.10\n",
    "sub/run.dat": b"more data",
    "sub/odd.info": b"nothing known",
}


@pytest.fixture(params=["folder", "store"])
def files(request, tmp_path):
    if request.param == "folder":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        yield FolderFiles(tmp_path)
        return
    with MemoryStore() as store:
        for name, data in FILES.items():
            store.set_data(f"{LOI}/{name}", data)
        store.set_data(LOI, b"")
        store.set_data(f"{LOI}0/other", b"")
        yield StoreFiles(store, LOI)


def test_checksums_are_those_of_the_datasafe():
    # Observed with labinform-datasafe 0.1.0b1.
    assert checksum_of([sums_of([])]) == "74be16979710d4c4e7c6647856088456"
    one, two = sums_of([b"a", b"b"]), sums_of([b"x" * (5 << 20)])
    assert checksum_of([one, two]) == checksum_of([two, one])
    both = sorted([hashlib.md5(b"ab").hexdigest(), two.md5])
    assert checksum_of([one, two]) == hashlib.md5("".join(both).encode()).hexdigest()
    assert one.sha256 == hashlib.sha256(b"ab").hexdigest()
    assert (one.size, two.size) == (2, 5 << 20)
    assert checksum_of([]) == hashlib.md5(b"").hexdigest()


def test_build_write_read_verify(files):
    manifest = build(files, loi=LOI, data_format="Bruker BES3T")
    assert set(manifest.data) == {"run.dat", "sub/run.dat"}
    assert set(manifest.metadata) == {
        MetadataFile("run.info", "cwEPR Info file", "0.1.4"),
        MetadataFile("more.yaml", "notes", "1.10"),
        MetadataFile("sub/odd.info"),
    }
    assert manifest.checksum == checksum_of(sums_of([data]) for data in FILES.values())
    assert manifest.sha256["run.dat"] == hashlib.sha256(b"data").hexdigest()
    with pytest.raises(KeyNotFoundError):
        read(files)
    write(files, manifest)
    assert read(files) == manifest
    assert verify(files) == Verification(data=True, all=True)
    assert verify(files).to_document() == {"data": True, "all": True}
    assert build(files, loi=LOI, data_format="Bruker BES3T") == manifest  # it is no part of itself


def test_values_cannot_be_changed(files):
    manifest = build(files)
    for value in (manifest, manifest.metadata[0], verify(files, manifest), sums_of([])):
        name = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
    with pytest.raises(TypeError):
        manifest.sha256["x"] = ""


def test_what_differs_is_named(files):
    write(files, build(files, loi=LOI))
    files.write("run.dat", b"DATA")
    assert verify(files) == Verification(data=False, all=False, differing=("run.dat",))
    files.write("run.dat", b"data")
    files.write("run.info", b"")
    found = verify(files)
    assert (found.data, found.all, found.differing) == (True, False, ("run.info",))
    assert found.to_document() == {"data": True, "all": False, "differing": ["run.info"]}
    assert not found
    files.write("run.info", INFO)
    files.write("new", b"")
    assert verify(files).extra == ("new",)
    assert verify(files)


def sums(**files):
    return {name.replace("__", "."): sums_of([data]) for name, data in files.items()}


def manifest(data, metadata=(), *, sha256=False, **files):
    found = sums(**files)
    named = [*data, *metadata]
    digests = {name: found[name].sha256 for name in named} if sha256 else {}
    return Manifest(
        loi="",
        data=tuple(data),
        metadata=tuple(map(MetadataFile, metadata)),
        checksum=checksum_of(found[name] for name in named),
        data_checksum=checksum_of(found[name] for name in data),
        sha256=MappingProxyType(digests),
    )


def test_without_digests_of_each_file_those_that_may_differ_are_named():
    made = manifest(["a", "b"], ["m", "n"], a=b"1", b=b"2", m=b"3", n=b"4")
    assert check(made, sums(a=b"1", b=b"2", m=b"3", n=b"4"))
    found = check(made, sums(a=b"1", b=b"x", m=b"3", n=b"4"))
    assert found == Verification(False, False, suspected=("a", "b"))
    found = check(made, sums(a=b"1", b=b"2", m=b"x", n=b"4"))
    assert found == Verification(True, False, suspected=("m", "n"))
    # Their names do not count.
    assert check(made, sums(a=b"2", b=b"1", m=b"3", n=b"4"))
    one = manifest(["a"], ["m"], a=b"1", m=b"2")
    assert check(one, sums(a=b"x", m=b"2")) == Verification(False, False, differing=("a",))
    assert check(one, sums(a=b"1", m=b"x")) == Verification(True, False, differing=("m",))


def test_missing_files_are_named():
    made = manifest(["a", "b"], ["m"], a=b"1", b=b"2", m=b"3")
    assert check(made, sums(a=b"1", m=b"3")) == Verification(False, False, missing=("b",))
    assert check(made, sums(a=b"1", b=b"2")) == Verification(True, False, missing=("m",))
    assert check(made, {}).missing == ("a", "b", "m")


def test_digests_find_what_a_forged_checksum_hides():
    # Swapped files have the same MD5 checksum of all, and so would two that collide.
    made = manifest(["a", "b"], sha256=True, a=b"1", b=b"2")
    found = check(made, sums(a=b"2", b=b"1"))
    assert found == Verification(False, False, differing=("a", "b"))


def test_folders_named_as_files_count_as_nothing():
    plain = manifest(["a"], a=b"1")
    made = dataclasses.replace(plain, data=("a", "sub", "bare"))
    found = check(made, {**sums(a=b"1"), "sub/x": sums_of([b"2"])}, ["bare/"])
    assert found
    assert found.extra == ("sub/x",)
    assert check(made, sums(a=b"1")).missing == ("sub", "bare")


def test_names_of_folders_and_links(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "linked").symlink_to("/etc")
    files = FolderFiles(tmp_path)
    assert list(files.names()) == ["a", "empty/"]
    assert build(files).names == ("a",)
    for name in ("../a", "/etc/passwd", "a/../a", "", ".", "none", "empty"):
        with pytest.raises(KeyNotFoundError):
            list(files.pieces(name))
    with pytest.raises(InvalidRequestError):
        FolderFiles(tmp_path / "a")


def test_a_dataset_has_data():
    with MemoryStore() as store:
        store.set_data("x/only.info", INFO)
        with pytest.raises(InvalidRequestError, match="no"):
            build(StoreFiles(store, "x"))


# -- the document ----------------------------------------------------------------------------

THEIRS = """\
format:
  type: datasafe dataset manifest
  version: 0.1.0
dataset:
  loi: 42.1001/ds/exp/sa/42/cwepr/1
  complete: false
files:
  metadata:
  - name: run1.info
    format: cwEPR Info file
    version: 0.1.4
  data:
    format: undetected
    names:
    - run1b.dat
    - run1.dat
checksums:
- name: CHECKSUM
  format: MD5 checksum
  span: data, metadata
  value: 744d0422eece5c1bc89fbc9967cb2ac7
- name: CHECKSUM_data
  format: MD5 checksum
  span: data
  value: 00000000000000000000000000000017
"""


def test_documents_of_the_datasafe_are_read():
    made = Manifest.from_yaml(THEIRS.encode())
    assert made == Manifest(
        loi="42.1001/ds/exp/sa/42/cwepr/1",
        data=("run1b.dat", "run1.dat"),
        metadata=(MetadataFile("run1.info", "cwEPR Info file", "0.1.4"),),
        checksum="744d0422eece5c1bc89fbc9967cb2ac7",
        data_checksum="00000000000000000000000000000017",  # digits that nobody quoted
    )
    assert Manifest.from_yaml(made.to_yaml()) == made
    flow = json.dumps(yaml.load(THEIRS, yaml.BaseLoader)).encode()
    assert Manifest.from_yaml(flow) == made


def test_checksums_are_quoted():
    made = Manifest.from_yaml(THEIRS.encode())
    text = dataclasses.replace(made, sha256={"run1.dat": "1" * 64}).to_yaml().decode()
    assert "value: '00000000000000000000000000000017'" in text
    assert "value: '744d0422eece5c1bc89fbc9967cb2ac7'" in text
    assert f"sha256: '{'1' * 64}'" in text
    document = yaml.safe_load(text)
    # As the reader of the datasafe goes about it: the last checksum of a span is the one.
    values = {"metadata" in each["span"]: each["value"] for each in document["checksums"]}
    assert values == {True: made.checksum, False: made.data_checksum}
    assert [each["name"] for each in document["checksums"]] == ["CHECKSUM", "CHECKSUM_data"]


def test_names_survive_whatever_they_are():
    names = (
        "no",
        "1",
        "1e3",
        "~",
        "a: b",
        "- x",
        "ü/日本",
        "x\ny",
        "#c",
        "'q\"",
        " ",
        "2026-11-26",
        "{a}",
    )
    made = dataclasses.replace(Manifest.from_yaml(THEIRS.encode()), data=names)
    assert Manifest.from_yaml(made.to_yaml()).data == names
    assert yaml.safe_load(made.to_yaml())["files"]["data"]["names"] == list(names)


def without(pattern):
    found, count = re.subn(pattern, "", THEIRS, count=1, flags=re.DOTALL)
    assert count
    return found.encode()


WRONG = {
    "nothing": b"",
    "blank": b"# nothing\n",
    "a list": b"- a\n",
    "text": b"a",
    "no YAML": b"a: [",
    "no UTF-8": b"a: \xff\xfe",
    "control characters": b"a: \x00",
    "two documents": THEIRS.encode() + b"---\n" + THEIRS.encode(),
    "an object": THEIRS.replace("0.1.0", "!!python/object/apply:os.system ['true']").encode(),
    "a tag": THEIRS.replace("complete: false", "complete: !x false").encode(),
    "an alias": THEIRS.replace("loi: 42", "loi: &a 42").encode(),
    "an anchor": b"a: &a [x]\nb: *a\n",
    "laughs": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "itself": b"a: &a [*a]\n",
    "depth": b"a: " + b"[" * 5000 + b"]" * 5000,
    "depth in blocks": b"\n".join(b" " * n + b"a:" for n in range(2000)),
    "one name twice": THEIRS.encode() + b"files: {}\n",
    "a list as a name": b"? [a]\n: b\n",
    "no files": without("files:.*(?=checksums)"),
    "no data": without("  data:.*(?=checksums)"),
    "no checksums": without("checksums:.*"),
    "no checksum of data": without("- name: CHECKSUM_data.*"),
    "no MD5": THEIRS.replace("MD5 checksum", "SHA checksum").encode(),
    "a short checksum": THEIRS.replace("744d", "").encode(),
    "a wrong checksum": THEIRS.replace("744d", "wxyz").encode(),
    "a list as checksum": THEIRS.replace("744d0422eece5c1bc89fbc9967cb2ac7", "[a]").encode(),
    "a name twice": THEIRS.replace("run1b.dat", "run1.dat").encode(),
    "data and metadata": THEIRS.replace("run1b.dat", "run1.info").encode(),
    "itself as a file": THEIRS.replace("run1b.dat", FILE_NAME).encode(),
    "an empty name": THEIRS.replace("run1b.dat", "''").encode(),
    "a mapping as a name": THEIRS.replace("run1b.dat", "{a: b}").encode(),
    "names that are none": THEIRS.replace("names:", "names: x\n    more:").encode(),
}


@each("name", WRONG)
def test_documents_that_are_no_manifest(name):
    with pytest.raises(InvalidRequestError, match=r"MANIFEST\.yaml cannot be used") as caught:
        Manifest.from_yaml(WRONG[name])
    assert len(caught.value.message) < 400


def test_documents_that_are_too_large():
    with pytest.raises(TooLargeError):
        Manifest.from_yaml(b"#" * (MAX_BYTES + 1))
    names = "".join(f"    - {number}\n" for number in range(10_001))
    with pytest.raises(TooLargeError, match="10000"):
        Manifest.from_yaml(THEIRS.replace("    - run1b.dat\n", names).encode())
    with MemoryStore() as store:
        store.set_data(f"x/{FILE_NAME}", b"#" * (MAX_BYTES + (1 << 20)))
        with pytest.raises(TooLargeError):
            read(StoreFiles(store, "x"))


def test_it_is_read_without_libyaml_all_the_same(monkeypatch):
    monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    assert parse_yaml(b"a: [1, {b: ~}]\n") == {"a": ["1", {"b": "~"}]}
    for name in ("an alias", "a tag", "depth", "no YAML", "two documents", "no UTF-8"):
        with pytest.raises(InvalidRequestError):
            parse_yaml(WRONG[name])


# -- the commands ----------------------------------------------------------------------------


def run(*words):
    result = CliRunner().invoke(cli, ["manifest", *map(str, words)], prog_name="kvstore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_commands_on_a_folder(tmp_path):
    (tmp_path / "a.dat").write_bytes(b"1")
    (tmp_path / "b.info").write_bytes(INFO)
    code, shown, _ = run("build", tmp_path, "--loi", LOI, "--json")
    made = read(FolderFiles(tmp_path))
    assert code == 0
    assert json.loads(shown) == {
        "files": 2,
        "checksum": made.checksum,
        "data_checksum": made.data_checksum,
    }
    assert made.loi == LOI
    assert run("verify", tmp_path) == (0, "data\ttrue\nall\ttrue\n", "")
    (tmp_path / "a.dat").write_bytes(b"2")
    (tmp_path / "c").write_bytes(b"")
    shown = "data\tfalse\nall\tfalse\ndiffering\ta.dat\nextra\tc\n"
    assert run("verify", tmp_path) == (1, shown, "")
    code, shown, _ = run("verify", tmp_path, "--json")
    assert code == 1
    assert json.loads(shown) == {
        "data": False,
        "all": False,
        "differing": ["a.dat"],
        "extra": ["c"],
    }


def test_commands_on_a_store(tmp_path):
    url = f"sqlite:{tmp_path / 'store'}"
    with SQLiteStore(tmp_path / "store") as store:
        store.set_data(f"{LOI}/a.dat", b"1")
        store.set_data("other", b"1")
    assert run("build", url, LOI)[0] == 0
    assert run("verify", url, LOI)[0] == 0
    assert run("verify", tmp_path / "store", LOI)[0] == 0  # the store that is in there
    with SQLiteStore(tmp_path / "store") as store:
        assert store.get(f"{LOI}/{FILE_NAME}").mimetype == "application/yaml"
        store.delete(f"{LOI}/a.dat")
    assert run("verify", url, LOI)[1].endswith("missing\ta.dat\n")
    assert run("verify", url, "nothing")[0] == 3
    assert run("verify", tmp_path / "nowhere")[0] == 1
    assert run("build", f"sqlite:{tmp_path / 'none'}", LOI)[0] == 1
    assert not (tmp_path / "none").exists()


def test_commands_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(Output, "for_people", True)
    (tmp_path / "a\x1b.dat").write_bytes(b"1")
    assert run("build", tmp_path)[1].startswith("1 file, checksum ")
    assert run("verify", tmp_path)[1] == "The dataset is as its manifest says.\n"
    (tmp_path / "a\x1b.dat").write_bytes(b"2")
    shown = "differing: a\\x1b.dat\nThe dataset is not as its manifest says.\n"
    assert run("verify", tmp_path)[1] == shown


def test_commands_without_yaml_say_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kvstore.manifest", None)
    for command in ("build", "verify"):
        code, shown, complaint = run(command, tmp_path)
        assert (code, shown) == (2, "")
        assert "pip install 'kvstore[manifest]'" in complaint


def test_a_store_that_can_only_be_read_gets_no_manifest():
    with MemoryStore() as store:
        store.set_data("x/a", b"")
        with pytest.raises(InvalidRequestError, match="only be read"):
            write(StoreFiles(ReadOnly(store), "x"), build(StoreFiles(store, "x")))


def test_too_many_files_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("kvstore.manifest.files.MOST", 3)
    with MemoryStore() as store:
        for number in range(4):
            store.set_data(f"x/{number}", b"")
        with pytest.raises(TooLargeError, match="at most 3 files"):
            build(StoreFiles(store, "x"))
