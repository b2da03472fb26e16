"""Does one operation in each of many forked children, for `injection` to interrupt.

Reads jobs from standard input, a JSON object a line, and answers each with the exit status of the
child that did it. Whoever traces us counts the calls of each child from zero; ``burn`` says how
many calls of a kind to make before the operation, that do nothing, so that one setting of the
tracer can hit any call of the operation.
"""
# ruff: noqa: PTH102, PTH104, PTH106, PTH108 - the plain calls are what this is about

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from kvstore import FileSystemStore, SQLiteStore, StorageError, StorageFullError, Store

OK, FULL, FAILED, BROKEN, UNEXPECTED = range(5)
NEW = b"the new data" * 50
LONG = "long/" + "x" * 600
NOWHERE = "/nonexistent/file"

#: Too large for the index of a SQLiteStore.
LARGE = b"more than fits" * 10_000


def several(store: Store) -> None:
    with store.transaction():
        store.set("a/key", LARGE, metadata={"v": "new"})
        store.set("b/key", NEW, metadata={"v": "new"})
        store.delete("a/large")


STORES: dict[str, Callable[..., Store]] = {"file": FileSystemStore, "sqlite": SQLiteStore}
OPERATIONS: dict[str, Callable[[Store], object]] = {
    "connect": lambda store: store.connect(),
    "tidy up": lambda store: store.connect(),
    "replace": lambda store: store.set("a/key", NEW, metadata={"v": "new"}),
    "replace a long name": lambda store: store.set(LONG, NEW, metadata={"v": "new"}),
    "create": lambda store: store.set("b/c/key", NEW, metadata={"v": "new"}),
    "set_metadata": lambda store: store.set_metadata("a/key", {"v": "new"}),
    "create by set_metadata": lambda store: store.set_metadata("b/key", {"v": "new"}),
    "delete": lambda store: store.delete("a/key"),
    "replace by large": lambda store: store.set("a/key", LARGE, metadata={"v": "new"}),
    "replace large": lambda store: store.set("a/large", LARGE[::-1], metadata={"v": "new"}),
    "replace large by small": lambda store: store.set("a/large", NEW, metadata={"v": "new"}),
    "create large": lambda store: store.set("b/key", LARGE, metadata={"v": "new"}),
    "delete large": lambda store: store.delete("a/large"),
    "transaction": several,
}

null = os.open(os.devnull, os.O_WRONLY)
BURN: dict[str, Callable[[], object]] = {
    "openat": lambda: os.open(NOWHERE, os.O_RDONLY),
    "write": lambda: os.write(null, b""),
    "pwrite64": lambda: os.pwrite(null, b"", 0),
    "fsync": lambda: os.fsync(null),
    "fdatasync": lambda: os.fdatasync(null),
    "ftruncate": lambda: os.ftruncate(null, 0),
    "fallocate": lambda: os.posix_fallocate(null, 0, 1),
    "rename": lambda: os.rename(NOWHERE, NOWHERE),
    "unlink": lambda: os.unlink(NOWHERE),
    "mkdir": lambda: os.mkdir(NOWHERE),
    "rmdir": lambda: os.rmdir(NOWHERE),
    "flock": lambda: fcntl.flock(null, fcntl.LOCK_UN),
    "utimensat": lambda: os.utime(NOWHERE, ns=(0, 0)),
}


def burn(call: str, times: int) -> None:
    # C libraries on other processors have renameat for rename, and so on.
    name = call if call in BURN else call.removesuffix("2").removesuffix("at")
    for _ in range(times):
        with contextlib.suppress(OSError):
            BURN[name]()


def work(job: dict[str, Any]) -> int:
    store = STORES[job["kind"]](job["root"], durable=job["durable"])
    if job["operation"] not in ("connect", "tidy up"):
        store.connect()
    mark(job, b"begin")
    for call, times in job["burn"].items():
        burn(call, times)
    try:
        OPERATIONS[job["operation"]](store)
        status = OK
    except StorageFullError:
        status = FULL
    except StorageError:
        status = FAILED
    mark(job, b"acknowledged")
    try:
        store.connect()
        store.set("next", b"next", metadata={"n": 1})
        assert store.get("next").read() == b"next"
    except StorageError:
        traceback.print_exc()
        return BROKEN
    return status


def mark(job: dict[str, Any], text: bytes) -> None:
    if not job["burn"]:
        os.write(null, text)


def answer(text: bytes) -> None:
    # Not by write(), which is traced: our own calls are counted, too.
    os.writev(sys.stdout.fileno(), [text, b"\n"])


def main() -> None:
    # Lets a tracer in that is not our parent, where the system asks for that (PR_SET_PTRACER).
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)
    answer(b"ready")
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            try:
                os._exit(work(job))
            except BaseException:  # noqa: BLE001 - nothing may reach the loop of the parent
                traceback.print_exc()
                os._exit(UNEXPECTED)
        answer(b"%d" % os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
