"""What people see: commands in a terminal of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kvstore.cli.progress import LARGE
from kvstore.opening import open_store
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.testing.odd_keys import ODD_KEYS

terminal = pytest.importorskip("terminal")


@pytest.fixture
def folder(tmp_path):
    with open_store(f"file:{tmp_path / 'data'}") as store:
        store.set(
            "sky/m31",
            b"\0" * 1500,
            metadata={"exposure": 30, "note": "x" * 200},
            mimetype="image/fits",
        )
        store.set("text", "só\n".encode())
    return f"file:{tmp_path / 'data'}"


@pytest.fixture
def look(environment):
    """Runs a command in a terminal of this many columns and gives what it shows."""

    def look(*words, columns=100, **streams):
        command = [sys.executable, "-m", "kvstore", *words]
        return terminal.run_in_terminal(command, environment, columns=columns, **streams)

    return look


def test_a_long_listing_is_a_table_in_the_width_of_the_terminal(look, folder):
    shown = look("ls", folder, "--long", columns=60)
    head, first, second = shown.text.splitlines()
    assert head.split() == ["key", "size", "modified", "mimetype", "revision"]
    assert first.split()[:3] == ["sky/m31", "1.5", "kB"]
    assert second.startswith("text")
    assert max(map(len, (head, first, second))) <= 60
    assert shown.raw != shown.text.encode()  # with colours


def test_metadata_is_cut_where_there_is_no_room(look, folder):
    shown = look("query", folder, "exposure=30", columns=50)
    assert shown.text.splitlines()[1].startswith("sky/m31  exposure=30, note=xxxx")
    assert shown.text.splitlines()[1].endswith("…")


def test_json_has_no_colours(look, folder):
    assert look("ls", folder, "--json").raw == b'{"key":"sky/m31"}\r\n{"key":"text"}\r\n'


def test_data_that_is_no_text_is_not_shown_unasked(look, folder):
    shown = look("get", folder, "sky/m31")
    assert shown.code == 1
    assert (
        shown.text
        == "kvstore: The data of 'sky/m31' is no text: save it with -o FILE, or add -o -.\n"
    )
    assert look("get", folder, "sky/m31", "-o", "-", "--range", "0:3").raw == b"\0\0\0"
    assert look("get", folder, "text").text == "só\n"


def test_no_key_gets_at_the_terminal(look, tmp_path):
    with open_store(f"file:{tmp_path}") as store:
        for key in ODD_KEYS.values():
            store.set(key, b"", metadata={key: key})
    for words in (["ls"], ["query"], ["query", "--json"]):
        shown = look(words[0], f"file:{tmp_path}", *words[1:], columns=200)
        assert shown.code == 0
        controls = {
            c for c in shown.text if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u202e"
        }
        assert controls == {"\n"}
    shown = look("get", f"file:{tmp_path}", "nix\x1b[31m\u202e")
    assert shown.raw == b"kvstore: There is no key 'nix\\x1b[31m\\u202e'.\r\n"


@pytest.fixture
def large(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(LARGE + 1))
    return file


@pytest.fixture
def url():
    with serve_background(MemoryStore()) as url:
        yield url


def test_large_transfers_have_a_bar(look, url, large):
    back = large.with_name("back")
    for words in (["set", url, "k", str(large)], ["get", url, "k", "-o", str(back)]):
        shown = look(*words)
        assert shown.code == 0
        assert f"{words[0]} k ━" in shown.text
        assert "of 4.2 MB" in shown.text
        *_, last = shown.raw.split(b"\x1b[2K")  # the bar's line is empty again
        assert last.startswith((b"k: stored", b"k: 4.2 MB saved"))
        assert shown.raw.rindex(b"\x1b[?25h") > shown.raw.rindex(b"\x1b[?25l")  # a cursor
    assert back.read_bytes() == large.read_bytes()


def test_copies_have_a_bar_and_a_count(look, url, large, tmp_path):
    with open_store(url) as store:
        store.multiset(["a", "b"], [large, b"small"])
    shown = look("cp", url, f"file:{tmp_path / 'copy'}")
    assert "copy a ━" in shown.text
    assert "2/2" in shown.text
    assert shown.text.splitlines()[-1].endswith("2 keys copied, 4.2 MB")


def test_small_transfers_have_none(look, folder, tmp_path):
    shown = look("get", folder, "text", "-o", str(tmp_path / "out"))
    assert shown.text == f"text: 4 B saved to {tmp_path / 'out'}\n"


def test_there_is_none_where_nobody_looks(start, look, url, large):
    out, err = start("set", url, "k", str(large)).communicate()
    assert out.startswith(b"k\t")
    assert err == b""
    # Standard error goes into a pipe, standard output to the terminal.
    shown = look("get", url, "k", "-o", str(large.with_name("back")), stderr=subprocess.DEVNULL)
    assert shown.text == f"k: 4.2 MB saved to {large.with_name('back')}\n"
