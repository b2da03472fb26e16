from __future__ import annotations

import json
import signal
import socket

import pytest

from kvstore import server
from kvstore.opening import open_store


@pytest.fixture
def served(monkeypatch):
    """What the command would serve, and how; nothing listens."""
    calls = []

    def serve(store, host, port, *, ready, **options):
        calls.append((store, host, port, options))
        ready("http://127.0.0.1:1234")

    monkeypatch.setattr(server, "serve", serve)
    return calls


def test_the_url_is_told_when_the_server_is_ready(served, ok):
    assert ok("serve", "memory:") == "http://127.0.0.1:1234\n"
    assert json.loads(ok("serve", "memory:", "--json")) == {"url": "http://127.0.0.1:1234"}


def test_without_a_store_it_is_a_folder_here(served, ok, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ok("serve", env={"KVSTORE_URL": "http://127.0.0.1:1"})
    assert (tmp_path / "kvstore-data" / "kvstore.db").is_file()
    ((store, host, port, options),) = served
    assert repr(store) == f"<SQLiteStore {str(tmp_path / 'kvstore-data')!r}>"
    assert store.info()["versions"] == 0
    assert store.info()["durability"] == "process-crash"
    assert (host, port) == ("127.0.0.1", 8000)
    assert options == {
        "hosts": None,
        "insecure": False,
        "uploads_folder": tmp_path / "kvstore-data" / "uploads",
    }
    assert not store.is_connected()


@pytest.mark.parametrize(
    ("scheme", "kind"), [("file", "FileSystemStore"), ("sqlite", "SQLiteStore")]
)
def test_data_that_is_in_that_folder_goes_on_being_served(
    served, ok, tmp_path, monkeypatch, scheme, kind
):
    monkeypatch.chdir(tmp_path)
    with open_store(f"{scheme}:kvstore-data") as store:
        store.set("old", b"data")
    ok("serve")
    (store, *_) = served[0]
    assert repr(store) == f"<{kind} {str(tmp_path / 'kvstore-data')!r}>"
    with store:
        assert store.to_bytes("old") == b"data"


@pytest.mark.parametrize(
    ("url", "words", "facts"),
    [
        ("sqlite:data", ["--keep-versions", "3"], {"versions": 3, "durability": "process-crash"}),
        ("sqlite:data", ["--durable"], {"versions": 0, "durability": "power-loss"}),
        ("file:data", ["--durable"], {"durability": "power-loss"}),
        ("file:data", [], {"durability": "process-crash"}),
        ("memory:", ["--keep-versions", "1"], {"versions": 1}),
    ],
)
def test_a_store_is_opened_as_asked_for(served, ok, tmp_path, monkeypatch, url, words, facts):
    monkeypatch.chdir(tmp_path)
    ok("serve", url, *words)
    info = served[0][0].info()
    assert {name: info[name] for name in facts} == facts


@pytest.mark.parametrize(
    ("url", "inside"),
    [("sqlite:data", "data/uploads"), ("file:data", "data/.kvstore/uploads"), ("memory:", None)],
)
def test_uploads_survive_with_the_store(served, ok, tmp_path, monkeypatch, url, inside):
    monkeypatch.chdir(tmp_path)
    ok("serve", url)
    assert served[0][3]["uploads_folder"] == (None if inside is None else tmp_path / inside)


@pytest.mark.parametrize(
    ("url", "words", "complaint"),
    [
        (
            "file:data",
            ["--keep-versions", "3"],
            "--keep-versions is for sqlite: and memory: stores",
        ),
        ("http://127.0.0.1:1", ["--keep-versions", "3"], "--keep-versions is for sqlite: and"),
        ("http://ann:secret@host", ["--durable"], "--durable is for sqlite: and file: stores"),
        ("memory:", ["--durable"], "--durable is for sqlite: and file: stores, not for 'memory:'"),
        ("memory:", ["--keep-versions", "-1"], "Invalid value for '--keep-versions'"),
    ],
)
def test_options_that_a_store_has_not_are_refused(
    served, refused, tmp_path, monkeypatch, url, words, complaint
):
    monkeypatch.chdir(tmp_path)
    message = refused(2, "serve", url, *words)
    assert message.startswith(complaint)
    assert "secret" not in message
    assert served == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        (["--allow-host", "lab"], ("localhost", "127.0.0.1", "[::1]", "127.0.0.1", "lab")),
        (
            ["--host", "0.0.0.0", "--insecure", "--allow-host", "a", "--allow-host", "b:80"],
            ("localhost", "127.0.0.1", "[::1]", "a", "b:80"),
        ),
    ],
)
def test_more_host_names_are_allowed(served, ok, words, hosts):
    ok("serve", "memory:", *words)
    assert served[0][3]["hosts"] == hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_other_machines_are_let_in_only_where_that_is_said(served, ok, refused, host):
    assert refused(2, "serve", "memory:", "--host", host).startswith(
        f"At {host!r} other machines can"
    )
    assert served == []
    ok("serve", "memory:", "--host", host, "--insecure")
    assert served[0][1] == host
    assert served[0][3]["insecure"] is True


def test_a_password_is_not_shown(served, ok, monkeypatch):
    from kvstore.cli.serve import _shown

    assert _shown("http://ann:secret@host/a") == "http://host/a"
    assert _shown("file:a@b") == "file:a@b"


def test_without_the_extra_one_line_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kvstore.server", None)
    assert refused(2, "serve", "memory:").startswith("Serving needs: pip install 'kvstore[server]'")


@pytest.mark.parametrize("words", [["nix"], ["memory:", "--port", "65536"], ["memory:", "more"]])
def test_serve_refuses_what_makes_no_sense(served, refused, words):
    refused(2, "serve", *words)
    assert served == []


def test_a_port_that_is_taken_is_one_line(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refused(1, "serve", "memory:", "--port", port).startswith("Address already in use")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_serves_until_it_is_told_to_end(start, tmp_path, number):
    process = start("serve", f"file:{tmp_path}", "--port", "0")
    url = process.stdout.readline().decode().strip()
    with open_store(url) as store:
        store.set("a", b"data", metadata={"one": 1})
    process.send_signal(number)
    assert process.wait() == 0
    assert (process.stdout.read(), process.stderr.read()) == (b"", b"")
    with open_store(f"file:{tmp_path}") as store:
        assert store.to_bytes("a") == b"data"
