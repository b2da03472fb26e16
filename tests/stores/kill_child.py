"""Writes to a SQLiteStore until it is killed, for test_sqlite_kill and test_sqlite_powercut.

Reads jobs from standard input, a JSON object a line, and answers each with the pids of the writers,
which are forked children. A writer tells its log what it begins and what was acknowledged; a line
of ``wait`` has them waited for.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from pathlib import Path
from typing import Any

from kvstore import ConflictError, SQLiteStore

KEYS = 6
COUNTER = "counter"
SIZES = (0, 10, 5_000, 70_000, 300_000)


def content(writer: str, number: int, size: int) -> bytes:
    """Return data that tell which write they are of, in every part."""
    line = b"%s %d\n" % (writer.encode(), number)
    return (line * (size // len(line) + 1))[:size]


class Writer:
    """Has keys of its own, and a counter with all others."""

    def __init__(self, job: dict[str, Any], writer: str) -> None:
        self.name = writer
        self.random = random.Random(f"{job['seed']} {writer}")
        self.number = job["begin"]
        self.log = os.open(Path(job["logs"], writer), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.store = SQLiteStore(
            job["root"], keep_versions=job["versions"], durable=job.get("durable", False)
        )

    def run(self) -> None:
        with self.store:
            while True:
                self.number += 1
                self.step()

    def step(self) -> None:
        key = f"{self.name}/{self.random.randrange(KEYS)}"
        kind = self.random.choice(("set", "set", "set", "metadata", "delete", "pair", "count"))
        if kind == "count":
            self.count()
            return
        size = self.random.choice(SIZES)
        keys = [key, f"{self.name}/pair"] if kind == "pair" else [key]
        self.tell("begin", kind=kind, keys=keys, size=size)
        data, metadata = content(self.name, self.number, size), {"n": self.number}
        if kind == "metadata":
            self.store.set_metadata(key, metadata)
        elif kind == "delete":
            self.store.multiset_metadata([key], [metadata])
            self.store.delete(key)
        else:
            with self.store.transaction():
                for name in keys:
                    self.store.set(name, data, metadata=metadata)
        self.tell("done")

    def count(self) -> None:
        while True:
            value = self.store.get(COUNTER)
            self.tell("begin", kind="count", keys=[], size=0)
            try:
                self.store.set_metadata(COUNTER, {"n": value.metadata["n"] + 1}, if_match=value)
            except ConflictError:
                self.tell("lost")
                continue
            self.tell("done")
            return

    def tell(self, what: str, **more: Any) -> None:
        line = json.dumps({"what": what, "number": self.number, **more}).encode()
        os.write(self.log, line + b"\n")


def answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    answer("ready")
    children: list[int] = []
    for line in sys.stdin:
        if line == "wait\n":
            statuses = [os.waitpid(child, 0)[1] for child in children]
            children = []
            answer(json.dumps(statuses))
            continue
        job = json.loads(line)
        for writer in job["writers"]:
            child = os.fork()
            if not child:
                try:
                    Writer(job, writer).run()
                except BaseException:  # noqa: BLE001 - nothing may reach the loop of the parent
                    traceback.print_exc()
                os._exit(1)
            children.append(child)
        answer(json.dumps(children))


if __name__ == "__main__":
    main()
