"""Processes that write to a SQLiteStore and are killed at random moments, many times over."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from kvstore import SQLiteStore
from tests.stores.kill_child import COUNTER, content
from tests.stores.nursery import nursery

#: Data and metadata of a key, None if there is none.
State = tuple[bytes, dict[str, Any]] | None

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


class Expected:
    """What a writer's log allows its keys to be."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.keys: dict[str, State] = {}
        #: Counted for sure, and perhaps.
        self.counted = 0
        self.number = 0
        self.acknowledged = 0
        #: Keys of the transaction that was cut off: all of it, or nothing.
        self.together: list[str] = []

    def read(self, log: Path) -> tuple[dict[str, list[State]], bool]:
        """Take in a log; return what each key may be, and whether a count was cut off."""
        begun: dict[str, Any] | None = None
        for line in log.read_text().splitlines() if log.exists() else ():
            entry = json.loads(line)
            self.number = entry["number"]
            if entry["what"] == "begin":
                begun = entry
                continue
            assert begun is not None
            if entry["what"] == "done":
                self.acknowledged += 1
                self.counted += begun["kind"] == "count"
                for key, states in self.outcomes(begun).items():
                    self.keys[key] = states[-1]
            begun = None
        log.unlink(missing_ok=True)
        allowed = {key: [state] for key, state in self.keys.items()}
        self.together = begun["keys"] if begun is not None else []
        if begun is not None:
            for key, states in self.outcomes(begun).items():
                allowed[key] = [self.keys.get(key), *states]
        return allowed, begun is not None and begun["kind"] == "count"

    def outcomes(self, begun: dict[str, Any]) -> dict[str, list[State]]:
        metadata = {"n": begun["number"]}
        data = content(self.writer, begun["number"], begun["size"])
        [key, *more] = begun["keys"] or [""]
        old = self.keys.get(key)
        match begun["kind"]:
            case "count":
                return {}
            case "metadata":
                return {key: [(old[0] if old else b"", metadata)]}
            case "delete":
                return {key: [(old[0] if old else b"", metadata), None]}
        return {name: [(data, metadata)] for name in (key, *more)}


def state(store: SQLiteStore, key: str) -> State:
    if not store.exists(key):
        return None
    value = store.get(key)
    return value.read(), value.metadata


def check_journal(store: SQLiteStore) -> None:
    followed: dict[str, Any] = {}
    last = None
    for entry in store.changes():
        assert last is None or entry.seq == last + 1
        last = entry.seq
        followed[entry.key] = (entry.revision, entry.metadata)
        if entry.action == "delete":
            del followed[entry.key]
    assert last == store.sequence()
    records = store._records("", None)
    assert followed == {record.key: (record.revision, record.metadata) for record in records}


def kill_over_and_over(folder: Path, writers: list[str], times: int, versions: int) -> int:
    """Return how many strays were found in all."""
    root, logs = folder / "store", folder / "logs"
    logs.mkdir()
    with SQLiteStore(root) as store:
        store.set_metadata(COUNTER, {"n": 0})
        assert list(store.query_keys(n=0)) == [COUNTER]  # has the field indexed
    chance = random.Random(f"{writers} {times}")
    expected = [Expected(writer) for writer in writers]
    count = strays = 0
    with nursery() as writing:
        for seed in range(times):
            begin = max(one.number for one in expected)
            job: dict[str, Any] = {
                "root": str(root),
                "logs": str(logs),
                "writers": writers,
                "seed": seed,
            }
            job |= {"begin": begin, "versions": versions}
            pids = writing.begin(job, chance.uniform(0, 0.15))
            assert writing.end(pids) == [signal.SIGKILL] * len(pids)
            perhaps = 0
            with SQLiteStore(root, keep_versions=versions) as store:
                for one in expected:
                    allowed, counting = one.read(logs / one.writer)
                    perhaps += counting
                    for key, states in allowed.items():
                        found = state(store, key)
                        assert found in states, (seed, key)
                        one.keys[key] = found
                    done = [one.keys[key] == allowed[key][-1] for key in one.together]
                    assert len(set(done)) < 2, seed
                n = store.get_metadata(COUNTER)["n"]
                counted = count + sum(one.counted for one in expected)
                assert counted <= n <= counted + perhaps, seed
                count = n - sum(one.counted for one in expected)
                problems = store.verify().problems
                strays += sum(problem.kind == "orphan" for problem in problems)
                assert [p for p in problems if p.kind != "orphan"] == [], seed
                assert COUNTER in list(store.query_keys(n=n))
                check_journal(store)
    for one in expected:
        assert one.acknowledged > times, "hardly anything was written"
    return strays


@pytest.mark.parametrize("writers", [["a"], ["a", "b"]], ids=["one", "two"])
@pytest.mark.timeout(600)
def test_killed_at_random_moments(tmp_path, writers):
    assert kill_over_and_over(tmp_path, writers, 50, versions=0) <= 5


@pytest.mark.soak
@pytest.mark.parametrize("versions", [0, 2])
@pytest.mark.parametrize("writers", [["a"], ["a", "b"]], ids=["one", "two"])
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_a_thousand_times(tmp_path, writers, versions):
    assert kill_over_and_over(tmp_path, writers, 250, versions) <= 5
