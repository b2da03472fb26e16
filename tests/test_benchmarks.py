from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from benchmarks import (
    bench_curl,
    bench_events,
    bench_faults,
    bench_http,
    bench_index,
    bench_library,
    bench_memory,
    bench_server,
    bench_stores,
)
from benchmarks.__main__ import LIBRARIES, machine, main
from benchmarks.measure import MIB, Contender, Row, Spread, Table, compare, rate_table
from benchmarks.serving import ROOT, running_server

needs_peak = pytest.mark.skipif(
    not bench_memory.is_possible(), reason="this system does not let a process reset its peak"
)


def test_contenders_take_turns_after_one_that_does_not_count():
    turns: list[str] = []
    contenders = [Contender(name, lambda name=name: turns.append(name)) for name in "abc"]
    compare("case", contenders, amount=1, peer="a", rounds=3, seconds=60)
    assert "".join(turns) == "abc" + "abc" + "bca" + "cab"


def test_no_round_begins_after_the_time_is_up_but_there_is_one():
    turns: list[str] = []
    contenders = [Contender(name, lambda name=name: turns.append(name)) for name in "ab"]
    rows = compare("case", contenders, amount=1, peer="a", rounds=1_000, seconds=0)
    assert turns == ["a", "b"] * 2
    assert len(rows) == 2


def test_rates_and_ratios_are_of_the_rounds(monkeypatch):
    # Each turn reads the clock before and after; the peer takes 2, 4 and 1 s, we 1, 8 and 1 s.
    clock = iter([0, 2, 2, 3, 10, 18, 20, 24, 30, 31, 31, 32])
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: next(clock))
    contenders = [Contender("peer", int), Contender("ours", int)]
    peer, ours = compare("case", contenders, amount=8, peer="peer", rounds=3, seconds=60)
    assert peer == Row("case", "peer", Spread(4, 2, 8), None)
    assert ours == Row("case", "ours", Spread(8, 1, 8), Spread(1, 0.5, 2))


def test_without_the_peer_there_are_no_ratios():
    (row,) = compare("case", [Contender("ours", int)], amount=1, peer="x", rounds=1, seconds=1)
    assert row.ratio is None
    assert row.rate.low == row.rate.high


def test_a_table_is_aligned():
    rows = [
        Row("get", "peer", Spread(1234.4, 1, 2000), None),
        Row("get", "ours", Spread(900, 10, 99999), Spread(0.734, 0.5, 12)),
    ]
    assert str(rate_table("title", "keys/s", "peer", rows)).splitlines() == [
        "title",
        "           keys/s    min..max  x peer     min..max",
        "get  peer   1,234    1..2,000",
        "get  ours     900  10..99,999    0.73  0.50..12.00",
    ]


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_http(kind):
    scale = bench_http.Scale(
        requests=4,
        rounds=1,
        threads=2,
        large=MIB,
        large_rounds=1,
        seconds=0,
        large_seconds=0,
        kinds=(kind,),
    )
    one, two, large = bench_http.tables(scale)
    for table in (one, two):
        assert [row[:2] for row in table.body] == [
            (operation, name)
            for operation in bench_http.OPERATIONS
            for name in ("urllib3", "kvstore", "requests")
        ]
        assert filled(table)
    assert [row[1] for row in large.body] == ["urllib3", "kvstore"] * 4
    assert filled(large)
    assert "1 thread\n" in str(one)
    assert "2 threads\n" in str(two)


def test_stores():
    scale = bench_stores.Scale(
        keys=3, folder_keys=2, large=2 * MIB, queried=120, rounds=1, seconds=0
    )
    tables = list(bench_stores.tables(scale))
    peers = 1 if bench_stores.is_complete() else 0
    assert [len(table.body) for table in tables] == [
        *(2 * (peers + 1), 2 * (peers + 1), peers + 1),
        *(2 * (peers + 2), 2 * (peers + 2), peers + 1),
    ]
    if peers:
        assert all(map(filled, tables))


def test_stores_without_the_peer(monkeypatch, capsys):
    scale = bench_stores.Scale(keys=1, folder_keys=1, large=MIB, queried=100, rounds=1, seconds=0)
    monkeypatch.setattr(bench_stores, "DictMemoryStore", None)
    monkeypatch.setattr(bench_stores, "QUICK", scale)
    assert main(["stores", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "encore is not installed" in said
    assert "kvstore, durable" in said


LIBRARY = bench_library.Scale(
    sizes=((1024, 2), (MIB, 1)),
    rounds=1,
    commits=4,
    threads=(1, 2),
    large=2 * MIB,
    large_rounds=1,
    queried=20,
    queries=2,
    seconds=0,
    large_seconds=0,
)


# diskcache opens a connection for each thread, and closes that of the last.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_library():
    tables = list(bench_library.tables(LIBRARY))
    gc.collect()
    if not bench_library.missing():
        assert [len(table.body) for table in tables] == [10, 10, 10, 10, 4, 4, 3, 2]
        assert all(map(filled, tables))


def test_library_without_the_peers(monkeypatch, capsys):
    monkeypatch.setattr(bench_library, "diskcache", None)
    monkeypatch.setattr(bench_library, "SqliteStore", None)
    monkeypatch.setattr(bench_library, "QUICK", LIBRARY)
    assert main(["library", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "pip install diskcache encore" in said
    assert "kvstore, durable" in said
    assert "synchronous" not in said


def test_index(monkeypatch, capsys):
    scale = bench_index.Scale(sizes=(1_000, 2_000), batch=600, written=3, asked=2, seconds=0)
    (table,) = bench_index.tables(scale)
    assert table.head == ("", "1,000 keys", "2,000 keys")
    assert {len(row) for row in table.body} == {3}
    assert all(map(all, table.body))
    assert "exposure" in table.title

    monkeypatch.setattr(bench_index, "QUICK", bench_index.Scale(sizes=(1_000,), asked=1))
    assert main(["index", "--quick"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in bench_index.QUESTIONS)


def test_events(monkeypatch, capsys):
    monkeypatch.setattr(bench_events, "SPAN", 0.0005)
    monkeypatch.setattr(bench_events, "ROUNDS", 1)
    monkeypatch.setattr(bench_events, "CASES", [(1, None), (10, "other"), (100_000, "other")])
    assert main(["events", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "1 listener, no filter" in said
    assert "10 listeners, not matching" in said
    assert "100,000" not in said


@needs_peak
def test_memory():
    (table,) = bench_memory.tables(bench_memory.Scale(size=2 * MIB + 1))
    assert [row[:2] for row in table.body] == [
        (title, side) for title in bench_memory.TRANSFERS.values() for side in ("client", "server")
    ]
    for *_, idle, peak, above in table.body:
        assert 0 < float(idle) <= float(peak)
        assert float(above) == pytest.approx(float(peak) - float(idle), abs=0.11)


@needs_peak
def test_a_peak_is_seen_and_forgotten():
    pid = os.getpid()
    before = bench_memory.Watch(pid)
    block = bytearray(os.urandom(64 * MIB))
    peak = before.peak()
    assert peak - before.idle > 50 * MIB
    del block
    assert bench_memory.Watch(pid).idle < peak - 50 * MIB


def test_memory_says_when_it_cannot(monkeypatch, capsys):
    monkeypatch.setattr(bench_memory, "is_possible", lambda: False)
    assert main(["memory"]) == 0
    assert "Needs Linux" in capsys.readouterr().out


# Nothing here is about time: what a client makes of these faults is the same on a busy machine.
@pytest.mark.parametrize(
    ("name", "fault", "outcome"),
    [
        ("kvstore", "none", "ok n=1"),
        ("kvstore", "first cut", "ok n=2"),
        ("kvstore", "every cut", "ok n=8"),
        ("kvstore", "RST in body", "ok n=2"),
        ("kvstore", "RST, no reply", "ok n=2"),
        ("kvstore", "503 503 200", "ok n=3"),
        ("kvstore", "PUT 503 503", "ok n=3"),
        ("requests", "none", "ok n=1"),
        ("requests", "first cut", "error n=1"),
        ("requests", "RST, no reply", "error n=1"),
        ("requests", "PUT 503 503", "error n=1"),
        ("requests, Retry(4)", "every cut", "error n=1"),
        ("requests, Retry(4)", "RST in body", "error n=1"),
        ("requests, Retry(4)", "RST, no reply", "ok n=2"),
        ("requests, Retry(4)", "PUT 503 503", "ok n=3"),
    ],
)
def test_faults(name, fault, outcome):
    client = bench_faults.CLIENTS[name]
    found = bench_faults.outcome(client, bench_faults.FAULTS[fault], os.urandom(MIB), 60)
    assert f"{found.verdict} n={found.requests}" == outcome


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_wrong_bytes_do_not_pass(method):
    client = bench_faults.Client(lambda *_: b"other", lambda *_: None)
    fault = bench_faults.Fault((bench_faults.Reply.WHOLE,), method)
    assert bench_faults.outcome(client, fault, b"data", 60).verdict == "WRONG"


def test_seconds_are_told_where_there_was_one():
    assert str(bench_faults.Outcome("ok", 2, 0.96)) == "ok n=2"
    assert str(bench_faults.Outcome("error", 1, 5.04)) == "error n=1, 5.0 s"


def test_faults_without_the_peers(monkeypatch, capsys):
    monkeypatch.setattr(bench_faults, "find_spec", lambda name: None)
    monkeypatch.setattr(bench_faults, "QUICK", bench_faults.Scale(size=64, faults=("none",)))
    assert main(["faults", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "without a row: httpx, obstore, fsspec." in said
    assert [line.split("  ")[0] for line in said.splitlines()[-3:]] == [
        "kvstore",
        "requests",
        "requests, Retry(4)",
    ]


UNHARMED = """
from benchmarks.bench_faults import CLIENTS, Fault, Reply, outcome
for name, client in CLIENTS.items():
    for method in ("GET", "PUT"):
        if client.is_installed():
            done = outcome(client, Fault((Reply.WHOLE,), method), bytes(range(256)) * 64, 60)
            print(name, method, done.verdict, done.requests, sep="|")
"""


# In a process of its own, as some of them start threads that never end.
@pytest.mark.slow
def test_without_a_fault_every_client_succeeds():
    command = [sys.executable, "-c", UNHARMED]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"{name}|{method}|ok|1"
        for name, client in bench_faults.CLIENTS.items()
        if client.is_installed()
        for method in ("GET", "PUT")
    ]


def test_the_machine_is_told():
    assert all(name in machine() for name in LIBRARIES)


def test_an_unknown_benchmark_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["htpt"])
    assert ended.value.code == 2
    assert "'htpt'" in capsys.readouterr().err


def test_the_server_ends_with_the_block(tmp_path):
    with running_server("memory", tmp_path) as server:
        os.kill(server.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_the_server_ends_when_its_parent_is_gone(tmp_path):
    command = [sys.executable, "-m", "benchmarks.serving", "memory", str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.stdin.close()  # as the end of a process closes all it had open
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_server_that_does_not_start_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(RuntimeError, match="did not start"),
        running_server("folder", tmp_path / "file"),
    ):
        pass


def filled(table: Table) -> bool:
    """Whether each but the peer's rows has a ratio."""
    return all(row[1] == table.head[4][2:] or row[4] for row in table.body)


@pytest.mark.slow
def test_calls_about_many_keys_are_measured(capsys):
    assert main(["many", "--quick"]) == 0
    shown = capsys.readouterr().out
    assert "20 keys of 1 KiB, 10 ms each way" in shown
    for name in ("one by one", "multiset", "multiget"):
        assert name in shown


@pytest.mark.slow
@pytest.mark.skipif(not bench_curl.is_possible(), reason="there is no curl")
def test_transfers_are_measured_against_curl(capsys):
    assert main(["curl", "--quick"]) == 0
    shown = capsys.readouterr().out
    for name in ("curl", "kvstore", "kvstore, SHA-256"):
        assert f"down  {name}" in shown


@pytest.mark.soak  # wrk loads all there is for a second a row
@pytest.mark.skipif(bool(bench_server.missing()), reason="nginx, wrk or curl is not there")
def test_the_server_is_measured_against_nginx():
    scale = bench_server.Scale(
        rounds=1, seconds=1, keys=50, large=16 * MIB, large_rounds=1, watchers=5, commits=20
    )
    get, many, put, large, watched = bench_server.tables(scale)
    for table in (get, many, put):
        assert [row[0] for row in table.body][::2] == [
            "nginx",
            "kvstore",
            "kvstore, token, 2 workers",
        ]
    assert [row[:2] for row in large.body][:2] == [("up", "nginx"), ("up", "kvstore")]
    assert len(watched.body) == 4
