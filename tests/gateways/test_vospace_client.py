"""The unmodified ``vos`` 3.7 of PyPI against the gateway, over plain http: commands and Python."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.gateways.vospace import VospaceGateway
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import empty
from tests.gateways.vos_home import Session, furnish
from tests.gateways.vos_space import IDENTIFIER, ROOT
from tests.server.access import lab_of

pytestmark = pytest.mark.timeout(400)  # pip may have to fetch the client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vos")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[MemoryStore, Session]]:
    store = MemoryStore()
    with serve_background(store, gateways=[VospaceGateway(IDENTIFIER)]) as url:
        environment = furnish(folder / "home", url)
        with Session(environment, folder) as session:
            yield store, session


@pytest.fixture
def store(served: tuple[MemoryStore, Session]) -> MemoryStore:
    empty(served[0])
    return served[0]


@pytest.fixture
def vos(served: tuple[MemoryStore, Session], store: MemoryStore) -> Session:
    return served[1]


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# -- commands ------------------------------------------------------------------------------------


def test_files_there_and_back(vos: Session, store: MemoryStore, folder: Path) -> None:
    small = _file(folder / "a.txt", b"hello\n")
    large = _file(folder / "big.bin", os.urandom(6_000_000))  # over 5 MiB it tells no MD5 before
    nothing = _file(folder / "empty.dat", b"")
    vos.run("vmkdir", "-p", f"{ROOT}/lab/in")
    for file in (small, large, nothing):
        vos.run("vcp", file, f"{ROOT}/lab/{file.name}")
        assert store.to_bytes(f"lab/{file.name}") == file.read_bytes()
        back = folder / "back" / file.name
        back.parent.mkdir(exist_ok=True)
        vos.run("vcp", f"{ROOT}/lab/{file.name}", back)
        assert back.read_bytes() == file.read_bytes()
    assert store.record("lab/a.txt").revision
    assert vos.run("vcat", f"{ROOT}/lab/a.txt").startswith("hello\n")
    assert vos.run("vls", f"{ROOT}/lab").split() == ["a.txt", "big.bin", "empty.dat", "in"]
    listed = vos.run("vls", "-l", f"{ROOT}/lab")
    assert [line[0] for line in listed.splitlines()] == ["-", "-", "-", "d"]
    assert vos.run("vls", f"{ROOT}/lab/*.txt").split() == ["a.txt"]
    assert vos.run("vls", "-l", "-S", f"{ROOT}/lab").splitlines()[0].endswith("big.bin")


def test_the_same_file_again_sends_no_bytes(vos: Session, store: MemoryStore, folder: Path) -> None:
    file = _file(folder / "same.txt", b"the same")
    vos.run("vcp", file, f"{ROOT}/same.txt")
    revision = store.record("same.txt").revision
    vos.run("vcp", file, f"{ROOT}/same.txt")
    assert store.record("same.txt").revision == revision
    file.write_bytes(b"another")
    vos.run("vcp", file, f"{ROOT}/same.txt")
    assert store.to_bytes("same.txt") == b"another"


def test_folders_there_and_back(vos: Session, store: MemoryStore, folder: Path) -> None:
    _file(folder / "tree" / "one", b"1")
    _file(folder / "tree" / "sub" / "two", b"22")
    vos.run("vmkdir", f"{ROOT}/up")
    vos.run("vcp", folder / "tree", "kv:up")  # with a long name it loses a slash
    assert store.to_bytes("up/tree/sub/two") == b"22"
    (folder / "down").mkdir(exist_ok=True)
    vos.run("vcp", f"{ROOT}/up/tree", folder / "down")
    assert (folder / "down" / "tree" / "sub" / "two").read_bytes() == b"22"
    vos.run("vmkdir", f"{ROOT}/synced")
    vos.run("vsync", "-r", folder / "tree", f"{ROOT}/synced")
    assert store.to_bytes("synced/tree/sub/two") == b"22"
    revision = store.record("synced/tree/one").revision
    _file(folder / "tree" / "three", b"333")
    vos.run("vsync", "-r", folder / "tree", f"{ROOT}/synced")
    assert store.to_bytes("synced/tree/three") == b"333"
    assert store.record("synced/tree/one").revision == revision


def test_tags(vos: Session, store: MemoryStore) -> None:
    store.set("n.txt", (b"data", {"exposure": 30.0}))
    vos.run("vtag", f"{ROOT}/n.txt", "colour=blue", "title=My & title")
    metadata = store.get_metadata("n.txt")
    assert (metadata["colour"], metadata["title"]) == ("blue", "My & title")
    assert metadata["exposure"] == 30.0
    assert "blue" in vos.run("vtag", f"{ROOT}/n.txt", "colour")
    vos.run("vtag", f"{ROOT}/n.txt", "colour=")
    assert "colour" not in store.get_metadata("n.txt")
    assert list(store.query_keys(title="My & title")) == ["n.txt"]


def test_modes(vos: Session, store: MemoryStore) -> None:
    store.set_data("dir/n", b"data")
    vos.run("vchmod", "o+r", f"{ROOT}/dir/n")
    vos.run("vchmod", "g+rw", f"{ROOT}/dir/n", "team", "team")
    permissions = {"owned": {"local"}, "read": {"public", "team"}, "write": {"team"}}
    assert store.get_permissions("dir/n") == permissions
    assert vos.run("vls", "-l", f"{ROOT}/dir/n").startswith("-rw-rw-r--")
    vos.run("vchmod", "g-w", f"{ROOT}/dir/n")
    vos.run("vchmod", "-R", "o-r", f"{ROOT}/dir")
    assert store.get_permissions("dir/n") == {"owned": {"local"}, "read": {"team"}}


def test_links(vos: Session, store: MemoryStore, folder: Path) -> None:
    store.set_data("lab/n", b"data")
    vos.run("vln", f"{ROOT}/lab/n", f"{ROOT}/link")
    vos.run("vln", f"{ROOT}/lab", f"{ROOT}/folder")
    assert vos.run("vcat", f"{ROOT}/link").startswith("data")
    assert vos.run("vls", f"{ROOT}/folder/").split() == ["n"]
    vos.run("vcp", "-L", f"{ROOT}/link", folder / "linked")
    assert (folder / "linked").read_bytes() == b"data"
    vos.run("vrm", f"{ROOT}/link")
    assert store.to_bytes("lab/n") == b"data"


def test_moving_and_removing(vos: Session, store: MemoryStore) -> None:
    for key in ("lab/a", "lab/in/b", "other/c"):
        store.set_data(key, b"data")
    vos.run("vmv", f"{ROOT}/lab/a", f"{ROOT}/lab/z")
    vos.run("vmv", f"{ROOT}/lab", f"{ROOT}/other")
    assert list(store.query_keys()) == ["other/c", "other/lab/in/b", "other/lab/z"]
    vos.run("vmv", f"{ROOT}/none", f"{ROOT}/x", code=2)
    vos.run("vrm", f"{ROOT}/other/c")
    vos.run("vtag", "-R", f"{ROOT}/other", "k=v")
    assert store.get_metadata("other/lab/z")["k"] == "v"
    vos.run("vrm", "-R", f"{ROOT}/other/lab")
    vos.run("vrmdir", f"{ROOT}/other")
    assert list(store.query_keys()) == []


def test_what_is_not_there(vos: Session, store: MemoryStore, folder: Path) -> None:
    for command, code in (("vls", 2), ("vrm", 2), ("vrmdir", -1), ("vcat", 2)):
        assert vos.run(command, f"{ROOT}/none", code=code) == ""
    vos.run("vcp", f"{ROOT}/none", folder / "none", code=2)
    vos.run("vmkdir", f"{ROOT}/lab")
    vos.run("vmkdir", f"{ROOT}/lab", code=17)
    vos.run("vmkdir", f"{ROOT}/none/x", code=2)


# -- the client of Python ------------------------------------------------------------------------


def test_the_client_of_python(vos: Session, store: MemoryStore, folder: Path) -> None:
    file = _file(folder / "run.fits", b"SIMPLE" * 100)
    vos.call("mkdir", f"{ROOT}/lab")
    assert vos.call("copy", str(file), f"{ROOT}/lab/run.fits") == 600
    found = vos.call("get_node", f"{ROOT}/lab/run.fits")
    assert found["props"]["MD5"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert vos.call("listdir", f"{ROOT}/lab") == ["run.fits"]
    assert vos.call("isdir", f"{ROOT}/lab") is True
    assert vos.call("isfile", f"{ROOT}/lab/run.fits") is True
    assert vos.call("size", f"{ROOT}/lab/run.fits") == 600
    down = folder / "python"
    down.mkdir()
    assert vos.call("copy", f"{ROOT}/lab/run.fits", str(down)) == "run.fits"
    assert vos.call("copy", f"{ROOT}/lab/run.fits", str(down / "x"), send_md5=True) == (
        hashlib.md5(file.read_bytes()).hexdigest()
    )
    assert vos.call("open", f"{ROOT}/lab/run.fits", view="data").startswith("SIMPLE")
    vos.call("link", f"{ROOT}/lab/run.fits", f"{ROOT}/lab/last")
    assert vos.call("get_node", f"{ROOT}/lab/last")["type"] == "vos:LinkNode"
    vos.call("move", f"{ROOT}/lab/run.fits", f"{ROOT}/lab/moved")
    assert vos.call("recursive_delete", f"{ROOT}/lab") == ["3", 0]
    assert list(store.query_keys()) == []


def test_a_download_goes_on_where_it_was_cut(
    vos: Session, store: MemoryStore, folder: Path
) -> None:
    data = os.urandom(3_000_000)
    store.set_data("long", data)
    md5 = hashlib.md5(data).hexdigest()
    down = folder / "resumed"
    down.mkdir()
    (down / f"long-{md5}.part").write_bytes(data[:1_000_000])
    assert vos.call("copy", f"{ROOT}/long", str(down / "long")) is not None
    assert (down / "long").read_bytes() == data


def test_many_children_and_odd_names(vos: Session, store: MemoryStore, folder: Path) -> None:
    names = [f"run {number:04}.fits" for number in range(1200)]
    for name in names:
        store.set_data(f"sky/{name}", b"data")
    found = vos.call("listdir", f"{ROOT}/sky")
    assert [name.replace("%20", " ") for name in found] == names
    file = _file(folder / "odd", b"odd")
    assert vos.call("copy", str(file), f"{ROOT}/sky/ä b.txt") == 3
    assert store.to_bytes("sky/ä b.txt") == b"odd"
    assert vos.call("copy", f"{ROOT}/sky/run 0001.fits", str(folder / "even")) == 4


def test_errors_of_the_client_of_python(vos: Session, store: MemoryStore, folder: Path) -> None:
    assert vos.error("get_node", f"{ROOT}/none") == ("NotFoundException", 2)
    assert vos.error("copy", f"{ROOT}/none", str(folder / "none"))[0] == "NotFoundException"
    vos.call("mkdir", f"{ROOT}/lab")
    assert vos.error("mkdir", f"{ROOT}/lab")[0] == "AlreadyExistsException"
    assert vos.error("delete", f"{ROOT}/none")[0] == "NotFoundException"


# -- with tokens ---------------------------------------------------------------------------------


def test_callers_are_told_apart(folder: Path) -> None:
    gateways = [VospaceGateway(IDENTIFIER)]
    with lab_of(MemoryStore(), folder, gateways=gateways) as lab:
        token = lab.token("ada")
        environment = furnish(folder / "tokens", lab.url)
        file = _file(folder / "mine.txt", b"mine")
        with Session(environment, folder, vospace_token=token) as ada:
            ada.run("vmkdir", f"--token={token}", f"{ROOT}/lab")
            ada.run("vcp", f"--token={token}", file, f"{ROOT}/lab/mine.txt")
            assert lab.store.get_permissions("lab/mine.txt") == {"owned": {"ada"}}
            assert ada.run("vls", f"--token={token}", f"{ROOT}/lab").split() == ["mine.txt"]
            ada.run("vls", f"{ROOT}/lab", code=13)  # without it
            assert ada.call("copy", f"{ROOT}/lab/mine.txt", str(folder / "got")) == 4
            ada.run("vmv", f"--token={token}", f"{ROOT}/lab/mine.txt", f"{ROOT}/lab/moved.txt")
            assert lab.store.to_bytes("lab/moved.txt") == b"mine"
        # ``.netrc`` has the token as a password.
        netrc = folder / "tokens" / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login ada password {token}\n")
        netrc.chmod(0o600)
        with Session(environment, folder) as ada:
            assert ada.run("vls", f"{ROOT}/lab").split() == ["moved.txt"]
            ada.run("vcp", file, f"{ROOT}/lab/second.txt")
            assert lab.store.get_permissions("lab/second.txt") == {"owned": {"ada"}}
