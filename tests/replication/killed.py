"""Runs `sync` in children that are killed at any moment, and looks at what they left.

A program of its own: it forks, which is no good where there are threads. For each seed it prints a
line of JSON: how many children were killed, and what was wrong. For a long look::

    PYTHONPATH=. python tests/replication/killed.py sqlite 0 100    # or file, or http
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kvstore.opening import open_store
from kvstore.replication import sync
from kvstore.server import serve_background
from kvstore.store import Store
from kvstore.stores.sqlite import SQLiteStore
from kvstore.values import Value

#: Seconds within which a child is killed; a whole run takes about as long.
LONGEST = 0.3
#: Children that may be killed before one comes to its end.
KILLS = 5


def fill(source: Store, dice: random.Random) -> None:
    with source.transaction():
        for number in range(150):
            size = dice.choice((0, 10, 1000, 90_000))
            source.set(f"k/{number:03}", dice.randbytes(size), metadata={"n": number})


def change(source: Store, dice: random.Random) -> None:
    keys = list(source.query_keys())
    for key in dice.sample(keys, 5):
        source.set(key, dice.randbytes(dice.choice((10, 90_000))))
    source.update_metadata(dice.choice(keys), {"more": dice.random()})
    source.delete(dice.choice(keys))


def content(store: Store) -> dict[str, tuple[bytes, object]]:
    keys = [key for key in store.query_keys() if not key.startswith(".sync/")]
    return {value.key: (value.read(), value.metadata) for value in store.multiget(keys)}


def run(urls: list[str], log: Path, limit: float | None) -> int:
    """Run it in a child that is killed after so much time; return how that ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    kinds = (signal.SIGALRM, signal.SIGKILL)
    signal.signal(kinds[0], signal.SIG_DFL)
    with open_store(urls[0]) as source, open_store(urls[1]) as destination:
        get = source._get

        def noted(key: str) -> Value:
            with log.open("a") as file:
                file.write(f"{key}\n")
            return get(key)

        source._get = noted  # type: ignore[method-assign]
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, limit)  # which nobody catches: it kills
        report = sync(source, destination, name="lab")
    for outcome in (*report.conflicts, *report.failures):
        print(outcome, file=sys.stderr, flush=True)  # noqa: T201
    os._exit(0 if report.is_complete else 3)


def tried(urls: list[str], log: Path, dice: random.Random) -> list[str]:
    """Kill some, then let one come to its end; return what was wrong."""
    wrong = []
    with open_store(urls[0]) as source:
        fill(source, dice)
    killed = 0
    for _ in range(KILLS):
        with open_store(urls[0]) as source, open_store(urls[1]) as destination:
            if killed and not dice.randrange(3):
                change(source, dice)
            mine, there = content(source), content(destination)
        finished = {key for key, value in mine.items() if there.get(key) == value}
        log.write_text("")
        status = run(urls, log, dice.uniform(0.001, LONGEST))
        killed += os.WIFSIGNALED(status)
        if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
            wrong.append(f"ended with {os.WEXITSTATUS(status)}")
        wrong += [f"read again: {key}" for key in finished & {*log.read_text().split()}]
    if os.WEXITSTATUS(run(urls, log, None)):
        wrong.append("not complete in the end")
    with open_store(urls[0]) as source, open_store(urls[1]) as destination:
        if content(source) != content(destination):
            wrong.append("not equal in the end")
        if sync(source, destination, name="lab").same != len(content(source)):
            wrong.append("not in step in the end")
    print(json.dumps({"killed": killed, "wrong": wrong}), flush=True)  # noqa: T201
    return wrong


@contextlib.contextmanager
def served(folder: str) -> Iterator[str]:
    """Serve a store in a child, as this process may have no threads."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with serve_background(SQLiteStore(folder)) as url:
            os.write(writing, f"{url}\n".encode())
            signal.pause()
        os._exit(0)
    try:
        with os.fdopen(reading) as pipe:
            os.close(writing)
            yield pipe.readline().strip()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main(kind: str, seeds: range) -> None:
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            url = f"{kind}:{folder}/b"
            if kind == "http":
                url = stack.enter_context(served(f"{folder}/b"))
            tried([f"sqlite:{folder}/a", url], Path(folder, "log"), random.Random(seed))


if __name__ == "__main__":
    main(sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3])))
