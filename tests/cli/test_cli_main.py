from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import click
import pytest

from kvstore import errors
from kvstore.cli.main import cli

COMMANDS = [
    *("cp", "demo", "export", "get", "import", "info", "log", "ls", "manifest", "meta", "perms"),
    *("profile", "query", "rm", "serve", "set", "sync", "token", "verify", "versions"),
]


def test_the_commands_are_all_there(ok):
    assert sorted(cli.commands) == COMMANDS
    listed = ok("--help")
    for name in COMMANDS:
        assert f"\n  {name} " in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_does_in_one_line(ok, name):
    assert cli.commands[name].get_short_help_str(200).endswith(".")
    assert len(cli.commands[name].get_short_help_str(200)) < 70
    shown = ok(name, "--help")
    assert shown.startswith(f"Usage: kvstore {name} [OPTIONS]")
    assert "--json" in shown
    assert "--debug" in shown


def test_the_version_is_that_of_the_package(ok):
    from kvstore.version import __version__

    assert ok("--version") == f"kvstore {__version__}\n"


def test_without_a_command_there_is_help_and_no_success(run):
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: kvstore [OPTIONS]")


@pytest.fixture
def failing(monkeypatch):
    """Makes the command ``fail`` raise what it is given."""

    def failing(error):
        @click.command()
        def fail():
            raise error

        monkeypatch.setitem(cli.commands, "fail", fail)

    return failing


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.KeyNotFoundError("There is no key 'a'."), 3, "There is no key 'a'."),
        (errors.ConflictError("Too late."), 4, "Too late."),
        (errors.StoreError("Something else."), 1, "Something else."),
        (errors.TransportError("Nobody there."), 1, "Nobody there."),
        (errors.StorageFullError("Full."), 1, "Full."),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), 1, "No such file: 'a.txt'."),
        (OSError(errno.EADDRINUSE, "Address in use"), 1, "Address in use."),
        (OSError("odd"), 1, "odd."),
        (OSError(), 1, "OSError."),
        (click.UsageError("Not so."), 2, "Not so (see kvstore fail --help)."),
        (click.ClickException("No."), 1, "No."),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
    ids=repr,
)
def test_every_failure_is_one_line_and_a_number(failing, refused, error, code, line):
    failing(error)
    assert refused(code, "fail") == line


def test_notes_of_an_error_are_told(failing, refused):
    error = errors.StoreError("Broken.")
    error.add_note("That was 'b'.")
    failing(error)
    assert refused(1, "fail") == "Broken. That was 'b'."


def test_an_error_of_ours_is_not_hidden(failing, run):
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run("fail")


@pytest.mark.parametrize(
    "words", [["--debug", "get", "memory:", "nix"], ["get", "memory:", "nix", "--debug"]]
)
def test_debug_shows_where_an_error_came_from(stores, run, words):
    result = run(*words)
    assert result.exit_code == 3
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1] == "kvstore: There is no key 'nix'."


def test_json_may_be_asked_for_before_the_command(store, ok):
    with store:
        store.set("a", b"")
    assert json.loads(ok("--json", "ls", "memory:")) == {"key": "a"}


def test_an_unknown_command_is_wrong_usage(refused):
    assert refused(2, "lst").startswith("No such command 'lst'")
    assert refused(2, "ls", "--nix").endswith("(see kvstore ls --help).")


# -- as a process ----------------------------------------------------------------------------


def test_the_module_is_the_command(start):
    out, err = start("--version").communicate()
    assert (out.startswith(b"kvstore "), err) == (True, b"")


@pytest.mark.parametrize("name", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(environment, name):
    code = f"import sys; sys.modules[{name!r}] = None; import kvstore.__main__ as m; m.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr == b"kvstore: the command line needs: pip install 'kvstore[cli]'\n"


def test_a_reader_that_goes_away_ends_it_quietly(start, tmp_path):
    import kvstore.opening

    with kvstore.opening.open_store(f"file:{tmp_path}") as store:
        store.set("big", bytes(1 << 22))
    process = start("get", f"file:{tmp_path}", "big")
    assert process.stdout.read(1) == b"\0"
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""


def test_a_reader_that_was_never_there_is_no_error_of_ours(start, tmp_path):
    # The little that is printed here is written at the end only.
    reading, writing = os.pipe()
    os.close(reading)
    process = start("ls", "memory:", "--help", stdout=writing)
    os.close(writing)
    assert process.wait() == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_upload_leaves_nothing(start, tmp_path, number, code):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("set", f"file:{tmp_path / 'data'}", "key", str(pipe))
    with pipe.open("wb", buffering=0) as stream:  # opens when the command does
        stream.write(b"half of it")
        process.send_signal(number)
    # The end of the data comes, too: a signal just before a read would be noticed only after it.
    assert process.wait() == code
    assert process.stdout.read() == b""
    complaint = b"kvstore: Interrupted.\n" if number == signal.SIGINT else b""
    assert process.stderr.read() == complaint
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= {".kvstore", "locks"}


def test_json_is_utf8_whatever_the_terminal_is(environment, tmp_path):
    import kvstore.opening

    with kvstore.opening.open_store(f"file:{tmp_path}") as store:
        store.set("\U0001f600é", b"")
    env = {**environment, "PYTHONIOENCODING": "iso-8859-1"}
    for words, wanted in (
        (["--json"], b'{"key":"\\ud83d\\ude00\\u00e9"}\n'),
        ([], b"\\U0001f600\xe9\n"),
    ):
        command = [sys.executable, "-m", "kvstore", "ls", f"file:{tmp_path}", *words]
        done = subprocess.run(command, env=env, capture_output=True, check=True)
        assert done.stdout == wanted
