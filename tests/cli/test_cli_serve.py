from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from kvstore import server
from kvstore.errors import AuthenticationError
from kvstore.opening import open_store
from kvstore.server import Limits
from kvstore.server.running.settings import AccessRules, Oidc, Settings


@pytest.fixture
def served(monkeypatch):
    """What the command would serve, and how; nothing listens."""
    calls = []

    def serve(store, settings, *, ready):
        calls.append((store, settings))
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
    ((store, settings),) = served
    folder = tmp_path / "kvstore-data"
    assert repr(store) == f"<SQLiteStore {str(folder)!r}>"
    assert store.info()["versions"] == 0
    assert store.info()["durability"] == "process-crash"
    assert settings == Settings(
        store="sqlite:./kvstore-data",
        uploads=folder / "uploads",
        access=AccessRules(tokens=folder / "tokens.json"),
    )
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
    ("url", "inside"), [("sqlite:data", "data"), ("file:data", "data/.kvstore"), ("memory:", None)]
)
def test_uploads_and_tokens_are_with_the_store(served, ok, tmp_path, monkeypatch, url, inside):
    monkeypatch.chdir(tmp_path)
    ok("serve", url)
    settings = served[0][1]
    assert settings.uploads == (None if inside is None else tmp_path / inside / "uploads")
    assert settings.access.tokens == (None if inside is None else tmp_path / inside / "tokens.json")


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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_other_machines_are_let_in_only_where_that_is_said(served, run, ok, refused, host):
    assert refused(2, "serve", "memory:", "--host", host).startswith(
        f"At {host!r} other machines can"
    )
    assert served == []
    result = run("serve", "memory:", "--host", host, "--insecure")
    assert result.stdout == "http://127.0.0.1:1234\n"
    assert "Nobody can use this server yet: `kvstore token create NAME` with --tokens" in (
        result.stderr
    )
    assert "Without TLS, whoever is on the way" in result.stderr
    assert (served[0][1].host, served[0][1].insecure) == (host, True)


def test_a_file_the_environment_and_what_is_typed_say_in_this_order(
    served, ok, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("serve.toml").write_text(
        """
        store = "memory:"
        host = "127.0.0.2"
        port = 1
        allow_hosts = ["a", "b:80"]
        [limits]
        data = 5
        idle_time = 2
        [access]
        public_read = true
        """
    )
    env = {
        "KVSTORE_SERVE_PORT": "2",
        "KVSTORE_SERVE_LIMITS_DATA": "6",
        "KVSTORE_SERVE_ALLOW_HOSTS": "c, d",
        "KVSTORE_SERVE_OIDC_ISSUER": "https://id.example",
    }
    words = ["--config", "serve.toml", "--limit", "data=7", "--oidc-audience", "kv"]
    ok("serve", *words, env=env)
    settings = served[0][1]
    assert (settings.host, settings.port, settings.allow_hosts) == ("127.0.0.2", 2, ("c", "d"))
    assert settings.limits == Limits(data=7, idle_time=2.0)
    assert settings.oidc == Oidc(issuer="https://id.example", audience="kv")
    assert settings.access == AccessRules(public_read=True)
    told = json.loads(run("serve", *words, "--check", "--json", env=env).stdout)
    assert (told["port"], told["limits.data"], told["tls"]) == (2, 7, None)
    assert len(served) == 1


@pytest.mark.parametrize(
    ("text", "words", "env", "complaint"),
    [
        ("[tls]\ncert = 'a.pem'", [], {}, "serve.toml:tls.cert: this needs tls.key, too"),
        ("prot = 1", [], {}, "serve.toml:prot: there is no such setting"),
        ("[limits]\ndat = 1", [], {}, "serve.toml:limits.dat: there is no such setting"),
        ("limits = 1", [], {}, "serve.toml:limits: there is no such setting"),
        ("port = true", [], {}, "serve.toml:port: it is a whole number, not True"),
        ("port = '1'\nport = 2", [], {}, "serve.toml: Cannot overwrite a value"),
        ("insecure = 1", [], {}, "serve.toml:insecure: it is true or false, not 1"),
        ("allow_hosts = [1]", [], {}, "serve.toml:allow_hosts: it is a list of texts, not [1]"),
        ("host = ''", [], {}, "serve.toml:host: it is a text, not ''"),
        ("log_format = 'xml'", [], {}, "serve.toml:log_format: it is one of auto, text, json"),
        ("", [], {"PORT": "x"}, "KVSTORE_SERVE_PORT: it is a whole number, not 'x'"),
        ("", [], {"POTR": "1"}, "KVSTORE_SERVE_POTR: there is no such setting"),
        ("", [], {"INSECURE": "maybe"}, "KVSTORE_SERVE_INSECURE: it is true or false"),
        ("", ["--limit", "data=0"], {}, "--limit data: The limit 'data' is a number above 0"),
        ("", ["--limit", "dat=1"], {}, "--limit dat: there is no such setting"),
        ("", ["--limit", "data"], {}, "A limit is NAME=NUMBER, not 'data'"),
        ("", ["--trusted-proxy", "lab"], {}, "A trusted proxy is an address or a network"),
        ("", ["--allow-host", "a b"], {}, "'a b' is no host name"),
        ("", ["--workers", "2"], {}, "2 processes cannot share a store in the memory"),
        ("", ["--open", "--public-read"], {}, "An open server asks nobody for credentials"),
        ("", ["--tls-cert", "no.pem", "--tls-key", "no.pem"], {}, "There is no certificate with"),
        ("[oidc]\nissuer = 'http://id.example'\naudience = 'kv'", [], {}, "An OpenID provider has"),
        (
            "[oidc]\nissuer = 'https://id.example'\naudience = 'kv'\nalgorithms = ['HS256']",
            [],
            {},
            "Signatures (oidc.algorithms) are some of RS256",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_place(
    served, refused, run, tmp_path, monkeypatch, text, words, env, complaint
):
    monkeypatch.chdir(tmp_path)
    Path("serve.toml").write_text(text)
    words = ["serve", "memory:", "--config", "serve.toml", *words]
    env = {f"KVSTORE_SERVE_{name}": value for name, value in env.items()}
    assert refused(2, *words, env=env).startswith(complaint)
    checked = run(*words, "--check", env=env)
    assert checked.exit_code == 2
    assert complaint in checked.stderr
    assert served == []


def test_a_password_is_not_shown(run):
    from kvstore.cli.serve import _shown

    assert _shown("http://ann:secret@host/a") == "http://host/a"
    assert _shown("file:a@b") == "file:a@b"
    shown = run("serve", "http://ann:secret@host/a", "--check", "--json", "--open")
    assert (shown.exit_code, "http://host/a" in shown.stdout) == (0, True)
    assert "secret" not in shown.output


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


@pytest.mark.parametrize(
    ("number", "log"), [(signal.SIGINT, ["--log", "none"]), (signal.SIGTERM, [])]
)
def test_the_server_serves_until_it_is_told_to_end(start, tmp_path, number, log):
    process = start("serve", f"file:{tmp_path}", "--port", "0", *log)
    url = process.stdout.readline().decode().strip()
    with open_store(url) as store:
        store.set("a", b"data", metadata={"one": 1})
    process.send_signal(number)
    assert process.wait() == 0
    assert process.stdout.read() == b""
    lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    # There is no terminal, so they are for programs.
    assert [line["path"] for line in lines if line["method"] == "PUT"] == (
        [] if log else ["/keys/a/value"]
    )
    assert {line["logger"] for line in lines} == (set() if log else {"kvstore.access"})
    with open_store(f"file:{tmp_path}") as store:
        assert store.to_bytes("a") == b"data"


def test_the_files_in_the_documentation_are_settings(run, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "server.md"
    examples = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S)
    assert len(examples) == 2
    (tmp_path / "serve.toml").write_text("".join(examples))
    # The folder above the one in the text is for whoever sets up the machine to make.
    here = f"sqlite:{tmp_path}/data"
    words = [here, "--config", str(tmp_path / "serve.toml"), "--check", "--json"]
    checked = run("serve", *words)
    assert (checked.exit_code, checked.stderr) == (
        0,
        "kvstore: Whoever comes needs a token: `kvstore token create NAME` makes one.\n",
    )
    assert json.loads(checked.stdout)["oidc.tags_claim"] == "realm_access.roles"


OPEN = "Whoever is on this machine may read and change everything."
FIRST = "The first `kvstore token create NAME` ends that."
TOKEN = "Whoever comes needs a token: `kvstore token create NAME` makes one."
PUBLIC = "Without one, what has the tag `public` can be read."
NOBODY = "Nobody can use this server yet: `kvstore token create NAME` lets in."
CLEAR = "Without TLS, whoever is on the way can read tokens and data."
ALL = "Whoever reaches this server may read and change everything."
NAMES = "Only requests for `localhost` are answered: --allow-host says under which name others know"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [OPEN, FIRST]),
        (["--open"], [OPEN]),
        (["--allow-host", "lab"], [TOKEN, NOBODY]),
        (["--public-read"], [TOKEN, PUBLIC]),
        (["--trusted-proxy", "::1", "--public-read"], [TOKEN, PUBLIC, NAMES]),
        (["--oidc-issuer", "https://id.example", "--oidc-audience", "kv"], [TOKEN]),
        (["--host", "0.0.0.0", "--insecure"], [TOKEN, NOBODY, CLEAR, NAMES]),
        (["--host", "0.0.0.0", "--insecure", "--open", "--allow-host", "lab"], [ALL, CLEAR]),
        (["--host", "::1", "--tokens", "there.json"], [TOKEN]),
    ],
)
def test_it_is_told_who_may_come_in(served, run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    Path("there.json").write_text("{}")
    told = run("serve", "--check", *words).stderr.splitlines()
    assert len(told) == len(expected)
    for line, sentence in zip(told, expected, strict=True):
        assert line.startswith(f"kvstore: {sentence}")


def test_a_server_that_runs_asks_for_tokens_once_there_are_some(start, ok, refused, tmp_path):
    store = f"file:{tmp_path}"
    process = start("serve", store, "--port", "0", "--log", "none")
    url = process.stdout.readline().decode().strip()
    with open_store(url) as opened:
        opened.set("a", b"data")
        text = ok("token", "create", "ann", store).strip()
        end = time.monotonic() + 60
        with pytest.raises(AuthenticationError):
            while time.monotonic() < end:  # it looks at the file twice a second
                opened.get_metadata("a")
    assert ok("ls", url, env={"KVSTORE_TOKEN": text}) == ""
    assert refused(1, "ls", url).endswith("Commands take it from KVSTORE_TOKEN.")
    mine = ok("token", "create", "mine", store, "--user", "local").strip()
    assert ok("ls", url, env={"KVSTORE_TOKEN": mine}) == "a\n"  # at once


def test_a_folder_in_no_folder_is_found_before_it_is_served(served, refused, run, tmp_path):
    url = f"sqlite:{tmp_path}/missing/data"
    assert "There is no folder" in refused(2, "serve", url)
    assert run("serve", url, "--check").exit_code == 2
    assert served == []
