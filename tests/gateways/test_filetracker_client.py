"""The client of filetracker 2.3.3 from PyPI, unmodified, with our server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import kvstore
from kvstore import SQLiteStore
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.server import Limits, serve_background
from kvstore.server.access.callers import Access
from kvstore.server.access.tokens import Tokens
from tests.cases import empty
from tests.gateways.filetracker_client import Client, ClientError, client_process
from tests.server.access import Lab, authenticator

pytestmark = pytest.mark.timeout(400)

TEXT = b"the same line again\n" * 5_000
RANDOM = hashlib.shake_256(b"seed").digest(3 << 20)
NEW = "c = f.Client(local_store=None, remote_url=url)\n"
CACHED = "c = f.Client(cache_dir=cache, remote_url=url)\n"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with client_process() as client:
        yield client


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteStore, str]]:
    store = SQLiteStore(tmp_path_factory.mktemp("served") / "store", durable=False)
    limits = Limits(requests=10**6)
    with store, serve_background(store, limits=limits, gateways=[FiletrackerGateway()]) as url:
        yield store, f"{url}/filetracker"


@pytest.fixture
def store(_served: tuple[SQLiteStore, str]) -> SQLiteStore:
    empty(_served[0])
    return _served[0]


@pytest.fixture
def url(_served: tuple[SQLiteStore, str], store: SQLiteStore) -> str:
    return _served[1]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize("data", [b"", b"\0", TEXT, RANDOM, b"\x1f\x8b no gzip", TEXT * 30])
@pytest.mark.parametrize("is_packed", [True, False])
def test_put_get_stream_and_facts(client, store, url, source, tmp_path, data, is_packed):
    source.write_bytes(data)
    told = client.run(
        NEW + "name = c.put_file('/a/b', source, compress_hint=hint)\n"
        "assert c.get_file('/a/b', target) == name\n"
        "assert c.get_file(name, target) == name\n"
        "stream, streamed = c.get_stream('/a/b')\n"
        "size = sum(len(piece) for piece in iter(lambda: stream.read(65536), b''))\n"
        "result = [name, streamed, size, c.file_version('/a/b'), c.file_size('/a/b')]\n",
        url=url,
        source=source,
        target=tmp_path / "new" / "target",
        hint=is_packed,
    )
    version = told[3]
    assert told == [f"/a/b@{version}"] * 2 + [len(data), version, len(data)]
    assert abs(version - time.time()) < 60
    assert (tmp_path / "new" / "target").read_bytes() == data
    assert store.to_bytes("a/b") == data


def test_versions(client, store, url, source, tmp_path):
    run = {"url": url, "source": source, "target": tmp_path / "target"}
    assert client.run(NEW + "result = c.put_file('/x@1000', source)", **run) == "/x@1000"
    source.write_bytes(b"older")
    assert client.run(NEW + "result = c.put_file('/x@999', source)", **run) == "/x@1000"
    assert store.to_bytes("x") == TEXT
    assert client.run(NEW + "result = c.get_file('/x@1000', target)", **run) == "/x@1000"
    with pytest.raises(ClientError, match="Version /x@999 not available"):
        client.run(NEW + "c.get_file('/x@999', target)", **run)
    remote = "s = f.remote_data_store.RemoteDataStore(url)\n"
    exists = "import filetracker.client.remote_data_store\n" + remote
    exists += "result = [s.exists(n) for n in ('/x', '/x@1000', '/x@999', '/none')]"
    assert client.run(exists, **run) == [True, True, False, False]
    client.run(NEW + "c.delete_file('/x@999')", **run)
    assert store.exists("x")
    client.run(NEW + "c.delete_file('/x@1000')", **run)
    assert not store.exists("x")


def test_protocol_1(client, store, url, source, tmp_path):
    """As the client speaks it to servers that do not know the version of their protocol."""
    program = NEW + "c.remote_store._protocol_ver = 1\n"
    program += "result = [c.put_file('/x@1000', source), c.get_file('/x', target)]"
    told = client.run(program, url=url, source=source, target=tmp_path / "target")
    assert told == ["/x@1000"] * 2
    assert (tmp_path / "target").read_bytes() == store.to_bytes("x") == TEXT


def test_the_cache(client, store, url, source, tmp_path):
    run = {"url": url, "source": source, "target": tmp_path / "out", "cache": tmp_path / "cache"}
    # Without a version the client looks at the clock twice, and looks for another than it has put.
    name = client.run(CACHED + "result = c.put_file('/a/x@1000', source)", **run)
    assert (tmp_path / "cache/files/a/x").read_bytes() == TEXT
    store.delete("a/x")  # so that it can come from the cache alone
    client.run(CACHED + "c.get_file(name, target)", name=name, **run)
    assert (tmp_path / "out").read_bytes() == TEXT
    with pytest.raises(ClientError, match="HTTP/404: There is no key 'a/x'"):
        client.run(CACHED + "c.get_file('/a/x', target)", **run)
    client.run(CACHED + "c.put_file('/only/here', source, to_remote_store=False)", **run)
    client.run(CACHED + "c.put_file('/only/there', source, to_local_store=False)", **run)
    assert list(store.query_keys()) == ["only/there"]
    program = "n, = [c.get_stream('/only/there', serve_from_cache=True)[1]]\nresult = n"
    assert client.run(CACHED + program, **run).startswith("/only/there@")
    assert (tmp_path / "cache/files/only/there").read_bytes() == TEXT


def test_lists(client, store, url, source):
    run = {"url": url, "source": source}
    program = NEW + "for name in ('/t/a@1000', '/t/b/c@2000', '/u@3000'):\n"
    client.run(program + "    c.put_file(name, source)", **run)
    store.set_data("by/others ž", b"data")
    program = "result = [sorted(names) for names in (c.list_remote_files(), "
    program += "c.list_remote_files(2000), c.list_remote_files(subpath='/t'), "
    program += "c.list_remote_files(1999, '/t', absolute_paths=True))]"
    assert client.run(NEW + program, **run) == [
        ["by/others ž", "t/a", "t/b/c", "u"],
        ["t/a", "t/b/c"],
        ["a", "b/c"],
        ["t/a"],
    ]
    assert client.run(NEW + "result = c.list_remote_files(subpath='/by')", **run) == ["others ž"]
    with pytest.raises(ClientError, match="HTTP/400: There is no folder 'none'"):
        client.run(NEW + "c.list_remote_files(subpath='/none')", **run)


def test_names_of_any_language(client, store, url, source, tmp_path):
    names = ["ž/ünïcode", "日本/ 語", "sp ace%41", "q?#&+="]
    for name in names:
        program = NEW + "c.put_file('/' + name, source)\nc.get_file('/' + name, target)"
        client.run(program, url=url, source=source, target=tmp_path / "target", name=name)
        assert (tmp_path / "target").read_bytes() == store.to_bytes(name) == TEXT
    listed = client.run(NEW + "result = c.list_remote_files()", url=url)
    assert sorted(listed) == sorted(names)


def test_the_shell(client, store, url, tmp_path):
    """Those of its commands that docs/filetracker.md does not show."""
    store.set_data("dir/file", TEXT)
    env = {"FILETRACKER_URL": url, "FILETRACKER_DIR": str(tmp_path / "cache")}
    target = tmp_path / "target"
    done = client.shell("get", "-c", "-f", "/dir/file", str(target), **env)
    assert (done.returncode, target.read_bytes()) == (0, TEXT), done.stderr
    assert client.shell("-r", url, "rm", "/dir/file", **env).returncode == 0
    assert not store.exists("dir/file")


def test_many_at_once(client, store, url, source, tmp_path):
    """Eight threads write and read the same names; all that is read is what one of them wrote."""
    program = (
        "import os\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "def work(number):\n"
        "    c = f.Client(local_store=None, remote_url=url)\n"
        "    own, path = [os.path.join(folder, f'{way}{number}') for way in ('in', 'out')]\n"
        "    for turn in range(8):\n"
        "        data = bytes([number]) * (1000 * (number + 1))\n"
        "        with open(own, 'wb') as file:\n"
        "            file.write(data)\n"
        "        c.put_file(f'/shared/{turn % 2}', own)\n"
        "        c.get_file(f'/shared/{turn % 2}', path)\n"
        "        with open(path, 'rb') as file:\n"
        "            got = file.read()\n"
        "        assert got == got[:1] * (1000 * (got[0] + 1)), len(got)\n"
        "    return number\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    result = list(pool.map(work, range(8)))\n"
    )
    assert client.run(program, url=url, folder=tmp_path) == list(range(8))
    assert sorted(store.query_keys()) == ["shared/0", "shared/1"]


def test_other_clients_see_the_same_files(client, store, url, source, tmp_path):
    run = {"url": url, "source": source, "target": tmp_path / "target"}
    client.run(NEW + "c.put_file('/theirs', source)", **run)
    with kvstore.open(url.removesuffix("/filetracker")) as ours:
        assert ours.to_bytes("theirs") == TEXT
        ours.set("ours", RANDOM, metadata={"note": 1})
        client.run(NEW + "result = c.get_file('/ours', target)", **run)
        assert (tmp_path / "target").read_bytes() == RANDOM
        ours.set_data("theirs", b"changed")
        version = client.run(NEW + "result = c.file_version('/theirs')", **run)
        assert version == int(store.record("theirs").modified)
    with kvstore.open(url, profile="filetracker") as ours:
        assert ours.to_bytes("theirs") == b"changed"
        assert sorted(ours.query_keys()) == ["ours", "theirs"]


# -- tokens --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server whose callers have tokens."""
    folder = tmp_path_factory.mktemp("lab")
    tokens = Tokens(folder / "tokens.json")
    access = Access([authenticator(tokens)], failures=10**6)
    store = SQLiteStore(folder / "store", user_tag="server", durable=False)
    with store, serve_background(store, access=access, gateways=[FiletrackerGateway()]) as url:
        yield Lab(url, store, tokens)


def url_of(lab: Lab, name: str, password: str | None = None) -> str:
    password = lab.token(name) if password is None else password
    return f"http://{name}:{password}@{urlsplit(lab.url).netloc}/filetracker"


def test_a_token_in_the_url(client, lab, source, tmp_path):
    program = "import os\nos.environ['FILETRACKER_URL'] = url\nc = f.Client(local_store=None)\n"
    program += "c.put_file('/own/file', source)\nc.get_file('/own/file', target)"
    target = tmp_path / "target"
    client.run(program, url=url_of(lab, "alice"), source=source, target=target)
    assert target.read_bytes() == TEXT
    assert lab.store.get_permissions("own/file") == {"owned": {"alice"}}
    for url in (url_of(lab, "alice", "wrong"), f"{lab.url}/filetracker"):
        for program in ("c.put_file('/x', source)", "c.get_file('/own/file', target)"):
            with pytest.raises(ClientError, match="401"):
                client.run(NEW + program, url=url, source=source, target=tmp_path / "target")
    assert not lab.store.exists("x")


def test_permissions_hold(client, lab, source, tmp_path):
    run = {"source": source, "target": tmp_path / "target"}
    lab.put("alice", "alice/secret", b"secret")
    lab.put("alice", "alice/shared", b"shared")
    lab.store.update_permissions("alice/shared", {"read": {"bob"}})
    bob = url_of(lab, "bob")
    with pytest.raises(ClientError, match="HTTP/404"):
        client.run(NEW + "c.get_file('/alice/secret', target)", url=bob, **run)
    client.run(NEW + "c.get_file('/alice/shared', target)", url=bob, **run)
    listed = client.run(NEW + "result = c.list_remote_files(subpath='/alice')", url=bob, **run)
    assert listed == ["shared"]
    big = tmp_path / "big"
    big.write_bytes(RANDOM)
    for program in (
        "c.put_file('/alice/secret', source)",
        "c.put_file('/alice/shared', source)",
        "c.put_file('/alice/shared', big)",
        "c.put_file('/alice/shared@1', source)",
        "c.put_file('/alice/shared@1', big)",
        "c.delete_file('/alice/shared')",
        "c.delete_file('/alice/shared@1')",
    ):
        with pytest.raises(ClientError, match=r"HTTP/403|Connection"):
            client.run(NEW + program, url=bob, big=big, **run)
    with pytest.raises(ClientError, match="HTTP/404"):
        client.run(NEW + "c.delete_file('/alice/secret')", url=bob, **run)
    assert lab.store.to_bytes("alice/shared") == b"shared"
    lab.store.update_permissions("alice/secret", {"write": {"bob"}})  # and not read
    with pytest.raises(ClientError, match="HTTP/412"):
        client.run(NEW + "c.put_file('/alice/secret', source)", url=bob, **run)
    assert lab.store.to_bytes("alice/secret") == b"secret"
    lab.store.update_permissions("alice/shared", {"write": {"bob"}})
    client.run(NEW + "c.put_file('/alice/shared', source)", url=bob, **run)
    assert lab.store.to_bytes("alice/shared") == TEXT
    assert lab.store.get_permissions("alice/shared")["owned"] == {"alice"}


def test_a_token_that_may_only_read(client, lab, source):
    lab.token("reader", scopes=["read"])
    with pytest.raises(ClientError, match="HTTP/403"):
        client.run(NEW + "c.put_file('/x', source)", url=url_of(lab, "reader"), source=source)
