"""Processes that share what is kept."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import kvstore
from kvstore import MemoryStore, SQLiteStore
from kvstore.compose.cached import CachedStore
from kvstore.testing import live_server

DATA = bytes(range(256)) * 8192


def _read(url: str, folder: str, begin: Any, results: Any) -> None:
    with CachedStore(kvstore.open(url), SQLiteStore(folder, durable=False)) as cached:
        begin.wait(100)
        is_right = cached.to_bytes("key") == DATA
        results.put((is_right, cached.info()["cache"]["misses"]))


def test_processes_make_one_download(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin, results = context.Barrier(3), context.Queue()
    with MemoryStore() as store, live_server(store) as url:
        store.set("key", DATA)
        arguments = (url, str(tmp_path), begin, results)
        processes = [context.Process(target=_read, args=arguments) for _ in range(3)]
        for process in processes:
            process.start()
        found = [results.get(timeout=100) for _ in processes]
        for process in processes:
            process.join(60)
    assert [is_right for is_right, _ in found] == [True] * 3
    assert sum(misses for _, misses in found) == 1
    results.close()
    results.join_thread()


def test_a_lock_of_another_key_keeps_nobody_out(tmp_path: Path) -> None:
    with MemoryStore() as far, MemoryStore() as local:
        far.multiset(["a", "b"], [b"a", b"b"])
        with CachedStore(far, local, locks=tmp_path / "locks") as cached:
            inside, done = threading.Event(), threading.Event()

            def hold() -> None:
                with cached._locks.of("a"):
                    inside.set()
                    done.wait(60)

            thread = threading.Thread(target=hold)
            thread.start()
            assert inside.wait(60)
            assert cached.to_bytes("b") == b"b"
            done.set()
            thread.join(60)
            assert cached.to_bytes("a") == b"a"
        assert sorted(path.suffix for path in (tmp_path / "locks").iterdir()) in ([], [".lock"] * 2)
