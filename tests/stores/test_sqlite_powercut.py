"""A SQLiteStore on a disk that loses its power: ext4 on a loop device, shut down without a flush.

``FS_IOC_SHUTDOWN`` drops all that has not reached the disk, as a power cut does; mounting it again
replays the journal of the file system. Needs root, and is not for a machine that lacks it.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvstore import SQLiteStore
from tests.stores.kill_child import COUNTER, content
from tests.stores.nursery import nursery

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
CUTS = 100

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None,
        reason="needs root and mkfs.ext4",
    ),
]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tmp_path / "mounted").mkdir()
    return image


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    # The shorter the interval, the more of what was not flushed is on the disk, in any order.
    folder = image.parent / "mounted"
    command = ["mount", "-o", "loop,commit=1", image, folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a loop device here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def cut(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    finally:
        os.close(descriptor)


class History:
    """What one writer did to its keys, in its order."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.keys: dict[str, list[Any]] = {}
        self.number = 0
        self.acknowledged = 0

    def add(self, lines: list[str], *, known: int) -> dict[str, list[Any]]:
        """Take in a log, of which so many lines were there before the cut.

        Returns what each key may be if nothing that was acknowledged is lost.
        """
        allowed = {key: states[-1:] for key, states in self.keys.items()}
        for number, line in enumerate(lines):
            entry = json.loads(line)
            self.number = max(self.number, entry["number"])
            if entry["what"] == "begin":
                begun = entry
                for key, states in self._outcomes(begun).items():
                    allowed.setdefault(key, [None]).extend(states)
            elif entry["what"] == "done":
                for key, states in self._outcomes(begun).items():
                    self.keys.setdefault(key, []).append(states[-1])
                    if number < known:
                        allowed[key] = states[-1:]
                self.acknowledged += number < known
        return allowed

    def _outcomes(self, begun: dict[str, Any]) -> dict[str, list[Any]]:
        number, size = begun["number"], begun["size"]
        match begun["kind"]:
            case "count":
                return {}
            case "metadata":  # the data are those of some write before
                return {begun["keys"][0]: [(number, None)]}
            case "delete":
                return {begun["keys"][0]: [(number, None), None]}
        return {key: [(number, size)] for key in begun["keys"]}


def check_data(store: SQLiteStore, writer: str) -> dict[str, Any]:
    """Return number and size of the keys of a writer; none of them is torn."""
    found: dict[str, Any] = {}
    for key, metadata in store.query(prefix=f"{writer}/"):
        data = store.to_bytes(key)
        if data:
            number = int(data.split(b" ", 1)[1].split(b"\n")[0]) if b"\n" in data else None
            if number is not None:
                assert data == content(writer, number, len(data)), key
        found[key] = (metadata["n"], len(data))
    return found


def is_allowed(found: Any, states: list[Any]) -> bool:
    if found is None:
        return None in states
    return any(
        state is not None and state[0] == found[0] and state[1] in (None, found[1])
        for state in states
    )


@pytest.mark.parametrize("writers", [["a"], ["a", "b"]], ids=["one", "two"])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "default"])
def test_power_cuts(image: Path, durable: bool, writers: list[str]) -> None:
    logs = image.parent / "logs"
    logs.mkdir()
    with mounted(image) as folder, SQLiteStore(folder / "store", durable=True) as store:
        store.set_metadata(COUNTER, {"n": 0})
        assert list(store.query_keys(n=0)) == [COUNTER]
    histories = [History(writer) for writer in writers]
    chance = random.Random(f"{durable} {writers}")
    lost = orphans = 0
    with nursery(stderr=subprocess.DEVNULL) as writing:
        for turn in range(CUTS // len(writers)):
            with mounted(image) as folder:
                job = {"root": str(folder / "store"), "logs": str(logs), "writers": writers}
                job |= {"seed": turn, "durable": durable, "versions": 0}
                job |= {"begin": max(history.number for history in histories)}
                pids = writing.begin(job, chance.uniform(0.05, 0.4))
                known = [len((logs / writer).read_text().splitlines()) for writer in writers]
                cut(folder)
                writing.end(pids)
            with mounted(image) as folder, SQLiteStore(folder / "store") as store:
                problems = store.verify().problems
                assert [p for p in problems if p.kind != "orphan"] == [], turn
                orphans += len(problems)
                store.repair()
                for history, count in zip(histories, known, strict=True):
                    log = logs / history.writer
                    allowed = history.add(log.read_text().splitlines(), known=count)
                    log.unlink()
                    found = check_data(store, history.writer)
                    for key, states in allowed.items():
                        if not is_allowed(found.get(key), states):
                            lost += 1
                            assert not durable, (turn, key, found.get(key), states)
                    history.keys = {key: [state] for key, state in found.items()}
    acknowledged = sum(history.acknowledged for history in histories)
    # Seen with pytest -s.
    said = f"{turn + 1} cuts, {acknowledged} acknowledged, {lost} lost, {orphans} orphans\n"
    sys.stdout.write(said)
    assert acknowledged > CUTS
