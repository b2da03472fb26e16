from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kvstore.cli import arguments
from kvstore.cli.main import cli
from kvstore.stores.memory import MemoryStore

ROOT = Path(__file__).parents[2]

Run = Callable[..., Result]


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> dict[str, MemoryStore]:
    """Stores by the URL under which commands find them, and which they then change for good."""
    known = {"memory:": MemoryStore(user_tag="me")}
    monkeypatch.setattr(arguments, "open_store", known.__getitem__)
    return known


@pytest.fixture
def store(stores: dict[str, MemoryStore]) -> MemoryStore:
    """The store that is ``memory:`` to commands. They disconnect it: use it in a ``with``."""
    return stores["memory:"]


@pytest.fixture
def source(stores: dict[str, MemoryStore]) -> MemoryStore:
    """`store` with three keys, to be copied from."""
    with stores["memory:"] as source:
        source.set("sky/a", b"A" * 1000, metadata={"one": 1}, mimetype="image/fits")
        source.set("sky/b", b"B", metadata={"two": [2]})
        source.set("sun", b"")
        source.update_permissions("sun", {"read": {"bob"}})
    return source


@pytest.fixture
def target(stores: dict[str, MemoryStore]) -> MemoryStore:
    """The store of another user that is ``http://target`` to commands."""
    stores["http://target"] = MemoryStore(user_tag="you")
    return stores["http://target"]


@pytest.fixture
def run() -> Run:
    """Runs a command in this process, its output in no terminal."""

    def run(*words: str, **options: Any) -> Result:
        env = {"KVSTORE_URL": None, **options.pop("env", {})}
        result = CliRunner().invoke(cli, list(words), prog_name="kvstore", env=env, **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def ok(run: Run) -> Callable[..., str]:
    """Runs a command that must succeed and complain of nothing; gives what it prints."""

    def ok(*words: str, **options: Any) -> str:
        result = run(*words, **options)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return ok


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Runs a command that must fail with this exit code; gives its one line of complaint."""

    def refused(code: int, *words: str, **options: Any) -> str:
        result = run(*words, **options)
        assert result.exit_code == code
        assert result.stdout == ""
        assert result.stderr.startswith("kvstore: ")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("kvstore: ").rstrip("\n")

    return refused


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a process in which this package can be imported."""
    ours = ("KVSTORE_URL", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "FORCE_COLOR", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    known = {
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "COLUMNS": "",
        "no_proxy": "127.0.0.1",
    }
    return {**kept, **known}


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command as a process of its own; at the end of the test it is ended."""
    started: list[subprocess.Popen[bytes]] = []
    # Started from a shell's background job this process ignores Ctrl-C, and so would the others.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "kvstore", *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        started.append(subprocess.Popen(command, env=environment, **streams))
        return started[-1]

    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        process.kill()
        process.communicate()
