"""What a store remembers, and whether it still has what it was given."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from kvstore.cli import following, verifying
from kvstore.cli.failures import PIPE_CLOSED
from kvstore.cli.progress import LARGE
from kvstore.errors import ChangesLostError, IntegrityError, KeyNotFoundError
from kvstore.opening import open_store
from kvstore.stores.memory import MemoryStore
from kvstore.testing import live_server
from kvstore.values import Value
from tests.transport.clients import announced
from tests.transport.wire_server import WireServer, answer, as_json


def ndjson(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def kept(stores):
    """A store that remembers; its key ``a`` was set four times, ``b`` was removed."""
    stores["memory:"] = MemoryStore(keep_versions=9, keep_changes=9)
    with stores["memory:"] as store:
        for number in range(4):
            data = b"x" * number
            store.set("a", data, metadata={"number": number}, mimetype=f"text/{number}")
        store.set("b", b"b")
        store.delete("b")
    return stores["memory:"]


# -- log -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["--limit", "2"], [5, 6]),
        (["--limit", "99"], [1, 2, 3, 4, 5, 6]),
        (["--limit", "0"], []),
        (["--since", "2"], [3, 4, 5, 6]),
        (["--since", "2", "--limit", "2"], [3, 4]),
        (["--since", "0", "--limit", "1"], [1]),
        (["--since", "6"], []),
    ],
)
def test_log_lists_changes_in_their_order(kept, ok, words, numbers):
    told = ok("log", "memory:", *words).splitlines()
    assert [line.split("\t")[0] for line in told] == [str(number) for number in numbers]
    assert [row["seq"] for row in ndjson(ok("log", "memory:", *words, "--json"))] == numbers


def test_a_change_is_told_with_all_there_is_to_it(kept, ok):
    with kept:
        entries = list(kept.changes())
    _, last = entries[0], entries[-1]
    seq, time, action, key, revision = ok("log", "memory:", "--limit", "1").rstrip("\n").split("\t")
    assert (seq, action, key, revision) == ("6", "delete", "b", last.revision)
    assert time.endswith("Z")
    (row,) = ndjson(ok("log", "memory:", "--since", "3", "--limit", "1", "--json"))
    assert row == {
        "seq": 4,
        "action": "update",
        "key": "a",
        "revision": entries[3].revision,
        "metadata": {"number": 3},
        "time": entries[3].time,
        "permissions": {"owned": ["local"]},
    }


def test_what_is_forgotten_is_an_error_only_where_it_was_asked_for(kept, ok, refused):
    with kept:
        for _ in range(9):
            kept.set("c", b"")
    numbers = [str(number) for number in range(7, 16)]
    for words in ([], ["--limit", "12"]):
        told = ok("log", "memory:", *words).splitlines()
        assert [line.split("\t")[0] for line in told] == numbers
    assert ok("log", "memory:", "--since", "6").count("\n") == 9
    message = refused(1, "log", "memory:", "--since", "5")
    assert message == "The changes after 5 are forgotten; the oldest left is 7."
    assert "was another one" in refused(1, "log", "memory:", "--since", "99")


def test_a_journal_that_does_not_say_where_it_begins_is_an_error(kept, refused, monkeypatch):
    def lost(since, limit):
        raise ChangesLostError("All is lost.")

    monkeypatch.setattr(kept, "changes", lost)
    assert refused(1, "log", "memory:") == "All is lost."


def test_a_store_without_journal_says_so(refused, tmp_path):
    with open_store(f"file:{tmp_path}") as store:
        store.set("a", b"")
    wanted = f"<FileSystemStore {str(tmp_path)!r}> has no journal."
    for words in ([], ["--limit", "1"], ["--since", "0"]):
        assert refused(1, "log", f"file:{tmp_path}", *words) == wanted


def test_log_of_a_store_on_disk(ok, tmp_path):
    with open_store(f"sqlite:{tmp_path}") as store:
        for key in ("a", "b", "a"):
            store.set(key, b"")
    told = [line.split("\t") for line in ok("log", str(tmp_path), "--limit", "2").splitlines()]
    assert [(row[0], *row[2:4]) for row in told] == [("2", "set", "b"), ("3", "update", "a")]


# -- log --follow ----------------------------------------------------------------------------


def test_what_is_there_is_followed_by_what_comes_until_ctrl_c(start, tmp_path):
    with open_store(f"sqlite:{tmp_path}") as store:
        for key in ("old", "a"):
            store.set(key, b"")
        following = start("log", str(tmp_path), "--follow", "--limit", "1")
        told = [following.stdout.readline()]
        store.set("b", b"")
        told.append(following.stdout.readline())
        store.delete("b")
        told.append(following.stdout.readline())
    following.send_signal(signal.SIGINT)
    rest, complaints = following.communicate(timeout=60)
    assert (following.returncode, rest, complaints) == (130, b"", b"")
    rows = [line.decode().rstrip("\n").split("\t") for line in told]
    assert [(row[0], *row[2:4]) for row in rows] == [
        ("2", "set", "a"),
        ("3", "set", "b"),
        ("4", "delete", "b"),
    ]


def test_following_ends_when_nobody_reads_though_nothing_comes(start, tmp_path):
    with open_store(f"sqlite:{tmp_path}") as store, live_server(store) as url:
        store.set("a", b"")
        started = [start("log", place, "--follow", "--json") for place in (str(tmp_path), url)]
        for following in started:
            assert json.loads(following.stdout.readline())["key"] == "a"
            following.stdout.close()
        for following in started:
            assert following.wait(timeout=60) == PIPE_CLOSED
            assert following.stderr.read() == b""


def event(seq):
    change = {"seq": seq, "action": "set", "key": f"k\t{seq}", "revision": f"r{seq}"}
    line = json.dumps({**change, "metadata": {}, "time": 1.5})
    return f"id: {seq}\ndata: {line}\n\n".encode()


def feed(*events):
    """An answer that is cut off behind these."""

    def step(wire):
        head = {"Transfer_Encoding": "chunked", "Content_Type": "text/event-stream"}
        wire.send(answer(Content_Length=None, **head))
        for each in events:
            wire.send(b"%x\r\n%b\r\n" % (len(each), each))
        wire.half_close()
        wire.hang()

    return step


def scripted(*steps):
    """A server whose journal ends at 9 when it is looked at first."""
    service = announced(
        "changes", profile={"base": "/keys", "query": "/query", "changes": "/changes"}
    )
    looks = [answer(200, Kvstore_Sequence=9)] * 2
    return WireServer([*looks, *steps, answer(403)], service=service)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(following, "_INTERVAL", 0.001)
    monkeypatch.setattr(following, "_LONGEST", 0.001)


@pytest.mark.usefixtures("hasty")
def test_following_goes_on_over_cuts_and_tells_of_them(run):
    steps = [feed(event(9), event(10)), feed(), feed(event(11))]
    with scripted(*steps) as server:
        result = run("log", server.url, "--follow", "--limit", "1", "--json")
    assert result.exit_code == 1
    assert [row["seq"] for row in ndjson(result.stdout)] == [9, 10, 11]
    asked = [seen.headers["last-event-id"] for seen in server.seen[2:]]
    assert asked == ["8", "10", "10", "11"]
    complaints = result.stderr.splitlines()
    assert len(complaints) == 3
    assert [line.endswith("Trying again.") for line in complaints] == [True, True, False]


@pytest.mark.usefixtures("hasty")
def test_what_was_forgotten_meanwhile_is_complained_of_and_passed_over(run):
    gone = {"type": "urn:kvstore:error:changes-lost", "status": 410, "detail": "All forgotten."}
    steps = [as_json({**gone, "oldest": 20}, 410), feed(event(20)), as_json(gone, 410)]
    with scripted(*steps, answer(200, Kvstore_Sequence=30)) as server:
        result = run("log", server.url, "--follow", "--limit", "1", "--json")
    assert [row["seq"] for row in ndjson(result.stdout)] == [20]
    asked = [seen.headers.get("last-event-id") for seen in server.seen[2:]]
    assert asked == ["8", "19", "20", None, "30"]
    assert result.stderr.count("All forgotten") == 2


def test_what_cannot_be_followed(refused, kept):
    with kept:
        for _ in range(9):
            kept.set("c", b"")
    message = refused(1, "log", "memory:", "--follow", "--since", "5")
    assert message == "The changes after 5 are forgotten; the oldest left is 7."
    message = refused(2, "log", "memory:", "-f", "--since", "9", "--limit", "1")
    assert message.startswith("--limit ends what --since begins")


def test_a_store_without_journal_cannot_be_followed(refused, tmp_path):
    with open_store(f"file:{tmp_path}") as store:
        store.set("a", b"")
    wanted = f"<FileSystemStore {str(tmp_path)!r}> has no journal."
    assert refused(1, "log", f"file:{tmp_path}", "--follow") == wanted


def test_people_who_follow_see_a_line_for_each_change(environment):
    terminal = pytest.importorskip("terminal")
    with scripted(feed(event(9))) as server:
        command = [sys.executable, "-m", "kvstore", "log", server.url, "-f", "--limit", "1"]
        shown = terminal.run_in_terminal(command, environment)
    first, *_ = shown.text.splitlines()
    seq, day, time, action, key = first.split()
    assert (seq, action, key) == ("9", "set", r"k\t9")
    assert (day[:3], time.count(":")) == ("197", 2)


# -- versions --------------------------------------------------------------------------------


def test_versions_are_listed_with_the_newest_first(kept, ok):
    with kept:
        records = kept.versions("a")
    told = [line.split("\t") for line in ok("versions", "memory:", "a").splitlines()]
    assert [(row[0], *row[2:]) for row in told] == [
        (record.revision, str(size), f"text/{size}", "current" if size == 3 else "")
        for record, size in zip(records, (3, 2, 1, 0), strict=True)
    ]
    assert all(row[1].endswith("Z") for row in told)
    rows = ndjson(ok("versions", "memory:", "a", "--json"))
    assert [(row["revision"], row["metadata"], row["current"]) for row in rows] == [
        (record.revision, record.metadata, record is records[0]) for record in records
    ]
    assert rows[0]["digest"] == records[0].digest


def test_of_a_key_that_was_deleted_no_version_is_the_current_one(kept, ok, refused):
    assert [row["current"] for row in ndjson(ok("versions", "memory:", "b", "--json"))] == [False]
    assert refused(3, "versions", "memory:", "nix") == "There is no key 'nix'."


def test_a_version_is_restored_as_a_new_one(kept, ok, refused):
    with kept:
        wanted = kept.versions("a")[2].revision
    key, revision = ok("versions", "memory:", "a", "--restore", wanted).split()
    with kept:
        value = kept.get("a")
        assert (key, revision) == ("a", value.revision)
        assert (value.read(), value.metadata, value.mimetype) == (b"x", {"number": 1}, "text/1")
        assert len(kept.versions("a")) == 5
    message = refused(3, "versions", "memory:", "a", "--restore", "nix")
    assert message == "There is no version 'nix' of the key 'a'."
    with kept:
        wanted = kept.versions("b")[0].revision
    told = json.loads(ok("versions", "memory:", "b", "--restore", wanted, "--json"))
    with kept:
        assert told == {"key": "b", "revision": kept.get("b").revision}
        assert kept.to_bytes("b") == b"b"


def test_a_store_that_keeps_no_versions_says_so(refused, tmp_path):
    with open_store(f"file:{tmp_path}") as store:
        store.set("a", b"")
    for words in ([], ["--restore", "x"]):
        message = refused(1, "versions", f"file:{tmp_path}", "a", *words)
        assert message.endswith("keeps no versions.")


def test_restoring_keeps_as_many_as_the_store_says(ok, tmp_path):
    url = f"sqlite:{tmp_path}"
    with open_store(url, keep_versions=5) as store:
        for number in range(4):
            store.set("a", bytes([number]))
        before = [record.revision for record in store.versions("a")]
    ok("versions", url, "a", "--restore", before[-1])
    ok("versions", url, "a", "--restore", before[0])
    with open_store(url) as store:
        assert store.to_bytes("a") == b"\3"
        after = [record.revision for record in store.versions("a")]
    assert after[2:] == before
    assert ok("get", url, "a", "--version", before[1]) == "\2"


# -- verify ----------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path):
    """A store with an index: two keys, one earlier version, one file."""
    url = f"sqlite:{tmp_path / 'library'}"
    with open_store(url, keep_versions=1) as store:
        store.set("small", b"old", metadata={"one": 1})
        store.set("small", b"new", metadata={"one": 2})
        store.set("large", bytes(100_000))
    return url


def blobs(tmp_path):
    return [path for path in (tmp_path / "library" / "blobs").rglob("*") if path.is_file()]


def test_verify_says_what_it_has_read(library, ok):
    assert ok("verify", library) == "keys\t2\nversions\t1\nsize\t100006\n"
    assert json.loads(ok("verify", library, "--json")) == {
        "keys": 2,
        "versions": 1,
        "size": 100_006,
        "problems": [],
        "repaired": [],
    }


def test_verify_tells_of_data_that_is_not_as_it_was_stored(library, run, tmp_path):
    (blob,) = blobs(tmp_path)
    blob.write_bytes(bytes(99_999) + b"x")
    result = run("verify", library)
    assert (result.exit_code, result.stderr) == (1, "")
    *facts, problem = result.stdout.splitlines()
    assert facts == ["keys\t2", "versions\t1", "size\t100006"]
    assert problem.split("\t")[:2] == ["torn", "large"]
    assert "are not those that were stored" in problem
    result = run("verify", library, "--json")
    assert result.exit_code == 1
    assert [(each["kind"], each["key"]) for each in json.loads(result.stdout)["problems"]] == [
        ("torn", "large")
    ]


def test_repair_removes_what_belongs_to_no_key_and_leaves_keys(library, run, ok, tmp_path):
    (blob,) = blobs(tmp_path)
    orphan = blob.with_name(f"{blob.name.partition('-')[0]}-1{blob.parent.name}")
    orphan.write_bytes(b"of nobody")
    result = run("verify", library, "--json")
    assert result.exit_code == 1
    assert [each["kind"] for each in json.loads(result.stdout)["problems"]] == ["orphan"]
    assert orphan.exists()
    told = ok("verify", library, "--repair").splitlines()
    assert told[:3] == ["keys\t2", "versions\t1", "size\t100006"]
    (repaired,) = told[3:]
    assert repaired == f"repaired\t\tRemoved: The file {orphan.name} belongs to no key."
    assert not orphan.exists()
    blob.unlink()
    result = run("verify", library, "--repair", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [(each["kind"], each["key"]) for each in told["problems"]] == [("missing", "large")]
    assert told["repaired"] == []
    assert ok("ls", library) == "large\nsmall\n"


@pytest.fixture
def folder(tmp_path):
    """A store of files, with keys of which some are not what they were."""
    root = tmp_path / "files"
    with open_store(f"file:{root}") as store:
        for key in ("gone.x", "good.x", "odd.x"):
            store.set(key, key.encode())
    return root


def test_other_stores_are_read_through(folder, run, ok):
    assert ok("verify", str(folder)) == "keys\t3\nversions\t\nsize\t17\n"
    (folder / "gone.x").unlink()
    (folder / "odd.x.meta.json").write_text("{")
    result = run("verify", str(folder))
    assert result.exit_code == 1
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[:3] == [["keys", "3"], ["versions", ""], ["size", "6"]]
    assert [row[:2] for row in rows[3:]] == [["unreadable", "gone.x"], ["unreadable", "odd.x"]]
    result = run("verify", str(folder), "--json")
    assert json.loads(result.stdout)["versions"] is None


def test_a_listing_that_breaks_is_a_problem_of_no_key(folder, run):
    (folder / "%zz.x.meta.json").write_text("{}")
    result = run("verify", str(folder), "--json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert (problem["kind"], problem["key"]) == ("unreadable", None)


def test_bytes_that_are_not_those_that_were_stored_are_torn(store, run):
    with store:
        store.set("a", b"data")
        store.set("b", b"data")
    get = store.get

    def torn(start, end):
        raise IntegrityError("The data of 'a' has another digest.", key="a")

    store.get = lambda key: Value(get(key).record, torn) if key == "a" else get(key)
    result = run("verify", "memory:", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [(each["kind"], each["key"]) for each in told["problems"]] == [("torn", "a")]
    assert (told["keys"], told["size"]) == (2, 4)


def test_a_key_that_is_listed_but_not_there_is_missing_unless_it_was_deleted(store, run, ok):
    with store:
        store.set("a", b"data")
        store.set("b", b"data")

    def gone(key):
        if deleted and key in store._entries:
            store.delete(key)
        raise KeyNotFoundError(f"There is no key {key!a}.", key=key)

    store.get = gone
    deleted = False
    result = run("verify", "memory:", "--json")
    assert result.exit_code == 1
    assert [(each["kind"], each["key"]) for each in json.loads(result.stdout)["problems"]] == [
        ("missing", "a"),
        ("missing", "b"),
    ]
    deleted = True
    assert json.loads(ok("verify", "memory:", "--json"))["problems"] == []


def test_repair_is_for_stores_with_an_index(folder, refused):
    for url in (str(folder), "memory:"):
        message = refused(2, "verify", url, "--repair")
        assert message.startswith("--repair is for sqlite: stores")


def test_an_index_that_is_no_database_is_an_error(refused, tmp_path):
    (tmp_path / "kvstore.db").write_bytes(b"no database" * 1000)
    assert "not a database" in refused(1, "verify", str(tmp_path))


def test_for_people_problems_are_sentences():
    report = verifying._Report(1, 2, 3000, [])
    assert verifying._sentence(report) == "1 key, 2 earlier versions, 3.0 kB read: no problems"
    report = verifying._Report(2, None, 0, [{}])
    assert verifying._sentence(report) == "2 keys, 0 B read: 1 problem"
    named = verifying._problem("torn", "a", "The data of 'a' are gone.")
    assert verifying._shown(named) == "torn: The data of 'a' are gone."
    other = verifying._problem("unreadable", "a", "No such file.")
    assert verifying._shown(other) == "unreadable: a: No such file."
    none = verifying._problem("index", None, "It is wrong.")
    assert verifying._shown(none) == "index: It is wrong."


# -- in a terminal ---------------------------------------------------------------------------


def test_people_see_tables_and_bars(environment, tmp_path, monkeypatch):
    terminal = pytest.importorskip("terminal")
    url = f"sqlite:{tmp_path / 'data'}"
    with open_store(url, keep_versions=1) as store:
        store.set("runs/1", b"old")
        store.set("runs/1", b"new")
    with open_store(f"file:{tmp_path / 'files'}") as store:
        store.set("big", bytes(LARGE))

    def look(*words):
        command = [sys.executable, "-m", "kvstore", *words]
        return terminal.run_in_terminal(command, environment)

    head, first, second = look("log", url).text.splitlines()
    assert head.split() == ["seq", "time", "action", "key", "revision"]
    assert (first.split()[0], *first.split()[3:5]) == ("1", "set", "runs/1")
    assert second.split()[3] == "update"
    head, first, second = look("versions", url, "runs/1").text.splitlines()
    assert head.split() == ["revision", "modified", "size", "mimetype", "current"]
    assert first.endswith("current")
    assert "current" not in second
    shown = look("verify", url)
    assert shown.code == 0
    assert shown.text == "1 key, 1 earlier version, 6 B read: no problems\n"
    shown = look("verify", f"file:{tmp_path / 'files'}")
    assert "verify big ━" in shown.text
    assert shown.text.splitlines()[-1].endswith("1 key, 4.2 MB read: no problems")
    (tmp_path / "files" / "big.data").unlink()
    shown = look("verify", f"file:{tmp_path / 'files'}")
    assert shown.code == 1
    assert shown.text.splitlines()[0].startswith("unreadable: ")
