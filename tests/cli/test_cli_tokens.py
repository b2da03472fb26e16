from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kvstore.cli.tokens import token_command
from kvstore.opening import open_store
from kvstore.server import serve_background
from kvstore.server.access.callers import Access
from kvstore.server.access.token_access import TokenAuthenticator
from kvstore.server.access.token_text import id_in
from kvstore.server.access.tokens import Tokens
from kvstore.stores.memory import MemoryStore
from tests.cli.terminal import run_in_terminal


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_token_is_shown_once_and_listed_without_it(ok, run, here):
    text = ok(
        "token", "create", "ann", "--tag", "staff", "--tag", "sky", "--expires", "30d"
    ).strip()
    assert id_in(text)
    made = json.loads(ok("token", "create", "cam", "--user", "ann", "--read-only", "--json"))
    assert id_in(made.pop("token"))
    assert (made["name"], made["user"], made["scopes"]) == ("cam", "ann", ["read"])
    listed = [json.loads(line) for line in ok("token", "list", "--json").splitlines()]
    assert listed[1] == made
    assert listed[0]["tags"] == ["sky", "staff"]
    assert listed[0]["expires"] == pytest.approx(time.time() + 30 * 86_400, abs=60)
    assert listed[0]["last_used"] is None
    lines = ok("token", "list").splitlines()
    assert lines[0].split("\t")[:4] == ["ann", "ann", '["sky","staff"]', '["read","write"]']
    assert text not in "".join(lines)
    assert ok("token", "revoke", "ann") == "ann\tann\n"
    assert [line.split("\t")[0] for line in ok("token", "list").splitlines()] == ["cam"]
    # They are where the server over this store looks for them, which does not mind them.
    assert (here / "kvstore-data" / "tokens.json").is_file()
    assert ok("verify", "./kvstore-data").startswith("keys\t0\n")


@pytest.mark.parametrize(
    ("store", "file"),
    [
        ("sqlite:data", "data/tokens.json"),
        ("file:data", "data/.kvstore/tokens.json"),
    ],
)
def test_tokens_are_with_their_store(ok, here, store, file):
    ok("token", "create", "ann", store)
    assert Tokens(here / file).load()
    ok("token", "create", "bob", "./data")  # is whichever is there
    assert len(Tokens(here / file).load()) == 2
    with open_store(store) as opened:
        opened.set("a", b"x")
        assert list(opened.query_keys()) == ["a"]
    assert "keys\t1\n" in ok("verify", "./data")


def test_tokens_may_be_in_any_file(ok, here):
    ok("token", "create", "ann", "--tokens", "mine.json")
    assert ok("token", "list", "memory:", "--tokens", "mine.json").startswith("ann\t")
    assert sorted(file.name for file in here.iterdir()) == ["mine.json", "mine.json.lock"]


def test_a_time_is_days_or_a_day_or_never(ok):
    for name, said, expected in [
        ("a", "2099-12-31", datetime(2100, 1, 1, tzinfo=UTC).timestamp()),
        ("b", "never", None),
        ("c", "1d", pytest.approx(time.time() + 86_400, abs=60)),
    ]:
        told = ok("token", "create", name, "--expires", said, "--json")
        assert json.loads(told)["expires"] == expected


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["create", "ann", "--expires", "soon"], 2, "--expires is a number of days (90d)"),
        (["create", "ann", "--expires", "2001-01-01"], 1, "A token expires in the future"),
        (["create", "ann", "--expires", "0d"], 1, "A token expires in the future"),
        (["create", "ann", "--scope", "read", "--read-only"], 2, "--read-only is --scope read"),
        (["create", "ann", "--scope", "all"], 2, "Invalid value for '--scope'"),
        (["create", "public"], 1, "The tag 'public' is everybody's"),
        (["create", "ann", "memory:"], 2, "A store that is in no folder keeps its tokens where"),
        (["create", "ann", "http://127.0.0.1:1"], 2, "A store that is in no folder"),
        (["list", "sqlite:none"], 1, "There is no store in the folder 'none'"),
        (["revoke", "ann", "--tokens", "t.json"], 3, "There is no token of the name 'ann'"),
    ],
)
def test_what_makes_no_sense_makes_no_token(refused, here, words, code, complaint):
    assert refused(code, "token", *words).startswith(complaint)
    assert not list(here.rglob("tokens.json"))


def test_people_are_told_what_to_do_with_it(environment, here):
    import sys

    command = [sys.executable, "-m", "kvstore", "token", "create", "ann", "--expires", "never"]
    shown = run_in_terminal(command, environment)
    first, *rest = shown.text.splitlines()
    assert id_in(first)
    assert rest[0] == "This is the token 'ann' of the user 'ann', for ever."
    assert "KVSTORE_TOKEN" in shown.text
    assert rest[-2].startswith("From now on everybody needs one. What was stored before is owned")
    assert (shown.code, token_command.name) == (0, "token")


def test_commands_take_the_token_from_the_environment(run, ok, refused, here):
    tokens = Tokens(here / "tokens.json")
    text = tokens.create("ann")[1]
    Path("a.txt").write_bytes(b"data")
    access = Access([TokenAuthenticator(tokens)])
    with MemoryStore() as store, serve_background(store, access=access) as url:
        told = refused(1, "ls", url)
        assert (
            told == f"{url} asks for a token, or another one. Commands take it from KVSTORE_TOKEN."
        )
        env = {"KVSTORE_TOKEN": text}
        ok("set", url, "a", "a.txt", env=env)
        assert ok("get", url, "a", env=env) == "data"
        assert ok("perms", "a", env={**env, "KVSTORE_URL": url}).split() == ["owned", '["ann"]']
        # What is for one server is not given to another.
        other = {**env, "KVSTORE_URL": "http://127.0.0.1:1"}
        assert refused(1, "ls", url, env=other) == told
        result = run("ls", url.replace("127.0.0.1", "127.0.0.1.nip.invalid"), env=env)
        assert "kvstore: The token travels in clear text" in result.stderr
        assert text not in result.output
