"""A SQLiteStore that is killed at, or refused, any system call that changes files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import pytest

from kvstore import KeyNotFoundError, SQLiteStore
from tests.stores.crash_child import FAILED, FULL, LARGE, NEW, OK
from tests.stores.injection import CALLS, KILLED, WHEN, Job, Trace, hits, run, traced

#: What a store holds: the data and metadata of each key.
State: TypeAlias = dict[str, tuple[bytes, dict[str, Any]]]

OLD: State = {
    "a/key": (b"the old data" * 40, {"v": "old"}),
    "a/large": (LARGE, {"v": "old"}),
    "a/other": (b"other" * 20_000, {"o": 1}),
    "z": (b"", {}),
}
WRITTEN = {"v": "new"}


def changed(**keys: Any) -> State:
    """Return the old state with some keys changed; None for removed."""
    state = {**OLD, **{name.replace("_", "/"): value for name, value in keys.items()}}
    return {key: value for key, value in state.items() if value is not None}


#: What each operation of crash_child makes of the old state.
CASES: dict[str, State] = {
    "replace": changed(a_key=(NEW, WRITTEN)),
    "set_metadata": changed(a_key=(OLD["a/key"][0], WRITTEN)),
    "create by set_metadata": changed(b_key=(b"", WRITTEN)),
    "delete": changed(a_key=None),
    "replace by large": changed(a_key=(LARGE, WRITTEN)),
    "replace large": changed(a_large=(LARGE[::-1], WRITTEN)),
    "replace large by small": changed(a_large=(NEW, WRITTEN)),
    "create large": changed(b_key=(LARGE, WRITTEN)),
    "delete large": changed(a_large=None),
    "transaction": changed(a_key=(LARGE, WRITTEN), b_key=(NEW, WRITTEN), a_large=None),
    "tidy up": OLD,
    "connect": {},
}
#: Those worth refusing with other errors, too: of each kind of file one that is written.
REFUSED = ("replace", "replace large", "transaction", "connect")
#: Those worth interrupting in a durable store again, which flushes more.
DURABLE = ("replace", "replace large", "transaction", "connect")


@pytest.fixture(scope="module", autouse=True)
def _without_flushes() -> Iterator[None]:
    """What is prepared and checked here need not outlast a power cut; the child does flush."""
    with mock.patch("os.fsync"):
        yield


class Roots:
    """Makes folders for jobs to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.store = folder / "store"
        with SQLiteStore(self.store) as store:
            for key, (data, metadata) in OLD.items():
                store.set(key, data, metadata=metadata)
            assert list(store.query_keys(v="old")) == ["a/key", "a/large"]
        self.untidy = folder / "untidy"
        shutil.copytree(self.store, self.untidy)
        leave_behind(self.untidy)

    def new(self, operation: str) -> Path:
        self.count += 1
        root = self.folder / f"store{self.count}"
        if operation != "connect":
            shutil.copytree(self.untidy if operation == "tidy up" else self.store, root)
        return root


def leave_behind(root: Path) -> None:
    """Leave what processes do that die at their last steps, and in the middle of an upload."""
    stage = root / "stage"
    with SQLiteStore(root) as store:
        blobs = store._engine().blobs
        # As if it died then: it neither moves nor removes.
        with mock.patch.object(blobs, "_move"), mock.patch.object(blobs, "remove") as remove:
            remove.return_value = []
            store.set("a/large", b"passing" * 20_000)
            store.set("a/large", LARGE, metadata={"v": "old"})
    assert len(list(stage.iterdir())) == 2
    (stage / "0123456789abcdef-0").write_bytes(b"ha")
    (stage / "0123456789abcdef.lock").write_bytes(b"")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    return Roots(tmp_path_factory.mktemp("crashes"))


@pytest.fixture(scope="module", params=[False, True], ids=["default", "durable"])
def traces(
    roots: Roots, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Trace]:
    names = DURABLE if request.param else tuple(CASES)
    jobs = [
        Job(kind="sqlite", operation=name, root=roots.new(name), durable=request.param)
        for name in names
    ]
    found = traced(jobs, tmp_path_factory.mktemp("trace") / "trace")
    return dict(zip(names, found, strict=True))


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> bool:
    return "durable" in request.node.callspec.id


def interrupted(
    roots: Roots, traces: dict[str, Trace], error: str = "", *, durable: bool
) -> list[Job]:
    """Return a job for each call of each operation to be hit, by that error if there is one."""
    return [
        Job(kind="sqlite", operation=name, root=roots.new(name), durable=durable, burn=burn)
        for name, trace in traces.items()
        if error in ("", "EIO") or name in REFUSED
        for burn in hits(trace, error)
    ]


def state(store: SQLiteStore) -> State:
    found: State = {}
    for key, metadata in store.query():
        value = store.get(key)
        assert value.metadata == metadata
        found[key] = (value.read(), metadata)
    return found


def check(job: Job, allowed: Sequence[State]) -> State:
    """Check that a store is in one of these states, agrees with itself, and works."""
    with SQLiteStore(job.root) as store:
        found = state(store)
        if "next" in found:
            assert found.pop("next") == (b"next", {"n": 1})
        assert found in allowed
        assert store.verify().problems == ()
        assert not list((job.root / "stage").glob("*-*"))
        assert list(store.query_keys(v="new")) == sorted(
            key for key, (_, metadata) in found.items() if metadata.get("v") == "new"
        )
        follow(store)
        store.set("a/key", b"again" * 20_000, metadata={"v": "again"})
        assert store.to_bytes("a/key") == b"again" * 20_000
        with pytest.raises(KeyNotFoundError):
            store.get("missing")
    shutil.rmtree(job.root)
    return found


def follow(store: SQLiteStore) -> None:
    """Check that whoever follows the journal has what the store has."""
    followed = {}
    entries = list(store.changes())
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    for entry in entries:
        followed[entry.key] = (entry.revision, entry.metadata)
        if entry.action == "delete":
            del followed[entry.key]
    records = store._records("", None)
    assert followed == {record.key: (record.revision, record.metadata) for record in records}


def test_killed_at_any_call(roots: Roots, traces: dict[str, Trace], durable: bool) -> None:
    """All is as it was, or all is done; nothing is left over, and it goes on."""
    jobs = interrupted(roots, traces, durable=durable)
    statuses = run(jobs, "-e", f"inject={CALLS}:signal=KILL:when={WHEN}", "-o", os.devnull)
    assert statuses == [KILLED] * len(jobs)
    outcomes: dict[str, list[State]] = {}
    for job in jobs:
        before = {} if job.operation == "connect" else OLD
        found = check(job, [before, CASES[job.operation]])
        outcomes.setdefault(job.operation, []).append(found)
    for operation, several in outcomes.items():
        if operation == "connect":
            continue
        assert OLD in several, operation
        # Of a small write the commit is the last call: killed there, it is not done.
        if any(call.name.startswith("rename") for call in traces[operation].during):
            assert CASES[operation] in several, operation


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_refused_any_call(
    roots: Roots, traces: dict[str, Trace], durable: bool, number: int
) -> None:
    """An error, and all is as it was; or none, and it is done. The next operation works."""
    if durable and number != errno.EIO:
        pytest.skip("one error tells enough about what a durable store flushes")
    name = errno.errorcode[number]
    jobs = interrupted(roots, traces, name, durable=durable)
    statuses = run(jobs, "-e", f"inject={CALLS}:error={name}:when={WHEN}", "-o", os.devnull)
    failures = {FAILED << 8, FULL << 8} if number == errno.ENOSPC else {FAILED << 8}
    for job, status in zip(jobs, statuses, strict=True):
        assert status in {OK << 8, *failures}, job
        before = {} if job.operation == "connect" else OLD
        check(job, [CASES[job.operation] if status == OK << 8 else before])
    assert failures & set(statuses)


def test_what_is_acknowledged_is_on_the_disk(traces: dict[str, Trace], durable: bool) -> None:
    """Blobs always, before the index names them; the log of the index if the store is durable."""
    for operation in ("replace", "replace large", "transaction"):
        unflushed: set[str] = set()
        names: set[str] = set()
        for call in traces[operation].during:
            if not call.worked:
                continue
            if call.name in ("write", "pwrite64"):
                unflushed.add(call.file)
                if call.file.endswith("-wal"):  # what it names is there
                    assert not [file for file in unflushed if "/stage/" in file], operation
                    assert not durable or not names, operation
            elif call.name in ("fsync", "fdatasync"):
                unflushed.discard(call.file)
                names.discard(call.file)
            elif call.name == "openat" and "O_CREAT" in call.arguments:
                names.add(str(Path(call.texts[0]).parent))
        assert bool([file for file in unflushed if file.endswith("-wal")]) is not durable
        assert not [file for file in unflushed if not file.endswith(("-wal", "-shm"))]
