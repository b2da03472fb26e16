from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from kvstore.errors import IntegrityError
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.server.access import lab_of


def summary(text: str) -> dict[str, int]:
    counts = json.loads(text.splitlines()[-1])["summary"]
    return {name: count for name, count in counts.items() if count}


@pytest.fixture
def sync(run):
    def sync(*words, code=0):
        result = run("sync", "memory:", "http://target", "--json", *words)
        assert (result.exit_code, result.stderr) == (code, "")
        return summary(result.stdout)

    return sync


def test_sync_brings_a_store_up_to_date(source, target, sync):
    assert sync("--prefix", "sky/") == {"sent": 2, "size": 1001}
    assert sync("--where", '{"one":{"exists":false}}') == {"same": 1, "sent": 1}
    assert sync() == {"same": 3}
    with source, target:
        source.delete("sky/b")
        target.set("sun", b"theirs")
    assert sync("--deletions", "keep", code=4) == {"same": 1, "kept": 1, "conflicted": 1}
    assert sync(code=4) == {"same": 1, "deleted": 1, "conflicted": 1}
    assert sync("--on-conflict", "destination") == {"same": 1, "kept": 1}
    assert sync("--on-conflict", "source", "--permissions", "copy") == {"same": 1, "sent": 1}
    with source, target:
        assert list(target.query_keys(prefix="s")) == ["sky/a", "sun"]
        assert target.get_permissions("sun")["read"] == {"bob"}


def test_sync_tells_programs_what_became_of_each_key(source, target, ok):
    lines = ok("sync", "memory:", "http://target", "--name", "lab").splitlines()
    assert [line.split("\t")[:3] for line in sorted(lines)] == [
        ["sky/a", "sent", "1000"],
        ["sky/b", "sent", "1"],
        ["sun", "sent", "0"],
    ]
    assert ok("sync", "memory:", "http://target", "--name", "lab") == ""
    with target:
        assert target.exists(".sync/lab/k")


def test_sync_fails_if_a_key_does(source, target, run, monkeypatch):
    get = source._get

    def broken(key):
        if key == "sun":
            raise IntegrityError("The data of 'sun' is torn.")
        return get(key)

    monkeypatch.setattr(source, "_get", broken)
    result = run("sync", "memory:", "http://target", "--json", "--attempts", "2")
    assert result.exit_code == 1
    assert summary(result.stdout) == {"sent": 2, "failed": 1, "size": 1001}
    assert json.loads(result.stdout.splitlines()[-2])["reason"] == "The data of 'sun' is torn."


def test_sync_takes_what_it_is_given(source, target, refused, tmp_path):
    assert "no store" in refused(2, "sync", "nix", "http://target")
    assert "--where" in refused(2, "sync", "memory:", "http://target", "--where", "{")
    assert "operator" in refused(1, "sync", "memory:", "http://target", "--where", '{"a":{"x":1}}')
    assert "name of a source" in refused(1, "sync", "memory:", "http://target", "--name", "a/b")
    assert "There is no store" in refused(1, "sync", f"file:{tmp_path}/nix", "http://target")
    refused(2, "sync", "memory:", "http://target", "--on-conflict", "both")


def test_each_server_gets_its_own_token(tmp_path, run):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with lab_of(MemoryStore(), folders[0]) as one, lab_of(MemoryStore(), folders[1]) as two:
        one.put("ann", "hers")
        one.put("bob", "his")
        tokens = {
            "KVSTORE_SOURCE_TOKEN": one.token("ann"),
            "KVSTORE_TARGET_TOKEN": two.token("carl"),
        }
        result = run("sync", one.url, two.url, "--json", env=tokens)
        assert (result.exit_code, summary(result.stdout)) == (0, {"sent": 1, "size": 4})
        assert two.store.get_permissions("hers") == {"owned": {"carl"}}
        del tokens["KVSTORE_TARGET_TOKEN"]
        result = run("sync", one.url, two.url, env=tokens)
        assert result.exit_code == 1
        assert "KVSTORE_TARGET_TOKEN" in result.stderr


def test_sync_follows_until_it_is_interrupted(tmp_path, environment):
    words = ["sync", f"sqlite:{tmp_path}/a", f"sqlite:{tmp_path}/b", "--watch"]
    with (
        SQLiteStore(tmp_path / "a") as source,
        subprocess.Popen(
            [sys.executable, "-m", "kvstore", *words],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for key in "ab":
            source.set(key, b"data")
            assert process.stdout.readline().split("\t")[:2] == [key, "sent"]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 130
