from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.cli import demo
from kvstore.cli.demo import data_folder, read_catalog
from kvstore.errors import StorageError
from tests.cases import each

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture
def temporary(tmp_path, environment):
    """The folder in which the demo, as a process, makes its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment["TMPDIR"] = str(folder)
    return folder


def test_the_demo_shows_the_whole_job_and_cleans_up(environment, temporary):
    # A proxy that is not there: what is for this machine must not go to it.
    env = {**environment, "http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    command = [sys.executable, "-m", "kvstore", "demo"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    size = sum((DATA / file["path"]).stat().st_size for file in read_catalog(DATA))
    assert f"12 files, {size / 1e6:.1f} MB, stored in" in text
    assert "sun/series/sunspots_yearly.csv" in text
    assert re.search(r"exposure +object *\n.*stis.*30\.0 +HD101998\n.*sa110.*120\.0", text)
    assert re.search(r"sunspots_yearly.csv +1700", text)
    assert "INSTRUME= 'Apogee Alta'" in text
    assert re.search(r"Done: revision \w+ became \w+", text)
    assert re.search(r"ConflictError: The key 'sky/2011/sa110_b.fits' is at revision \w+", text)
    assert "The metadata says: {'quality': 'good'}." in text
    assert "owned: local; read: public; write: alice" in text
    assert "12 StoreSetEvent" in text
    assert "update  sky/2011/sa110_b.fits" in text
    assert "12 of 12 copies have the SHA-256 digest of the original." in text
    assert re.search(r"nile_flow.csv +942 B\n", text)
    assert text.splitlines()[-1].startswith("All of this took")
    assert "\x1b" not in text
    assert len(text.splitlines()) < 100
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_the_demo_may_stay_up(start, ok, temporary, number, code):
    process = start("demo", "--keep")
    commands = []
    for line in process.stdout:
        if line.startswith(b"    kvstore "):
            commands.append(line.decode().split()[1:])
        if len(commands) == 3:
            break
    assert [words[0] for words in commands] == ["ls", "query", "meta"]
    for words in commands:
        assert ok(*words) != ""
    process.send_signal(number)
    assert process.wait() == code
    assert process.stderr.read() == b""
    assert list(temporary.iterdir()) == []


def test_the_demo_takes_other_files(ok, tmp_path):
    (tmp_path / "a.txt").write_text("short")
    entry = {
        "path": "a.txt",
        "key": "k",
        "mimetype": "text/plain",
        "metadata": {"title": "\x1b[2J"},
    }
    (tmp_path / "catalog.json").write_text(json.dumps({"files": [entry]}))
    text = ok("demo", "--data", str(tmp_path))
    assert "1 of 1 copies have" in text
    assert "\\x1b[2J" in text


def test_the_sample_data_is_that_of_the_repository_or_the_wheel(monkeypatch, tmp_path):
    assert data_folder() == DATA
    packaged = tmp_path / "demo_data"
    monkeypatch.setattr(demo, "_DATA", (packaged, DATA))
    assert data_folder() == DATA
    packaged.mkdir()
    (packaged / "catalog.json").write_text("{}")
    assert data_folder() == packaged


def test_without_data_the_demo_says_so(monkeypatch, refused, tmp_path):
    monkeypatch.setattr(demo, "_DATA", (tmp_path / "a", tmp_path / "b"))
    assert refused(1, "demo").startswith("The sample data is not installed")
    assert refused(1, "demo", "--data", str(tmp_path)).startswith("There is no catalog.json in")
    assert refused(2, "demo", "--json").startswith("The demo is for people")


@pytest.mark.parametrize(
    "catalog", ["[]", "{}", '{"files": [1]}', '{"files": [{"path": "a"}]}', '{"files": 1}']
)
def test_a_catalog_of_another_shape_is_refused(tmp_path, catalog):
    (tmp_path / "catalog.json").write_text(catalog)
    with pytest.raises((StorageError, ValueError), match="catalog"):
        read_catalog(tmp_path)


def test_an_empty_catalog_is_refused(tmp_path):
    (tmp_path / "catalog.json").write_text('{"files": []}')
    with pytest.raises(StorageError, match="has no files"):
        read_catalog(tmp_path)


@each("file", read_catalog(DATA), ids=lambda file: file["key"])
def test_the_sample_data_is_what_its_licences_say(file):
    digest = hashlib.sha256((DATA / file["path"]).read_bytes()).hexdigest()
    section = (DATA / "LICENSES.md").read_text(encoding="utf-8").split(f"## {file['path']}\n")[1]
    assert f"SHA-256: `{digest}`" in section.split("\n## ")[0]
