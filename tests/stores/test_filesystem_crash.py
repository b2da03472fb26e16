"""A FileSystemStore that is killed at, or refused, any system call that changes files."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import pytest

from kvstore import FileSystemStore, KeyNotFoundError
from kvstore.filenames import encode, sidecar
from kvstore.stores import filesystem
from tests.stores.crash_child import FAILED, FULL, LONG, NEW, OK
from tests.stores.injection import CALLS, KILLED, WHEN, Call, Job, Trace, hits, run, traced

#: Data and metadata of a key, None if there is no such key.
State: TypeAlias = tuple[bytes, dict[str, Any]] | None

OLD = (b"the old data" * 40, {"v": "old"})
OTHERS = {"a/other": (b"other", {"o": 1}), "z": (b"", {})}


@dataclass(frozen=True)
class Case:
    """An operation of crash_child on a key, and the states it may leave."""

    key: str
    before: State
    after: State

    @property
    def states(self) -> list[State]:
        return [self.before, self.after]


CASES = {
    "connect": Case("a/key", None, None),
    "tidy up": Case("a/key", (NEW, {"v": "new"}), (NEW, {"v": "new"})),
    "replace": Case("a/key", OLD, (NEW, {"v": "new"})),
    "replace a long name": Case(LONG, OLD, (NEW, {"v": "new"})),
    "create": Case("b/c/key", None, (NEW, {"v": "new"})),
    "set_metadata": Case("a/key", OLD, (OLD[0], {"v": "new"})),
    "create by set_metadata": Case("b/key", None, (b"", {"v": "new"})),
    "delete": Case("a/key", OLD, None),
}


#: Those that are worth refusing with other errors, too.
REFUSED = {"connect", "replace", "create", "delete"}
#: The operations that are worth interrupting in a durable store again, which flushes more.
DURABLE = {"connect", "replace", "create", "set_metadata", "delete"}


class Roots:
    """Makes folders for jobs to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.store = folder / "store"
        with FileSystemStore(self.store) as store:
            for key in ("a/key", LONG):
                store.set(key, OLD)
            for key, value in OTHERS.items():
                store.set(key, value)
        self.untidy = folder / "untidy"
        shutil.copytree(self.store, self.untidy)
        leave_behind(self.untidy)

    def new(self, operation: str) -> Path:
        self.count += 1
        root = self.folder / f"store{self.count}"
        if operation != "connect":
            shutil.copytree(self.untidy if operation == "tidy up" else self.store, root)
        return root


@pytest.fixture(scope="module", autouse=True)
def _without_flushes() -> Iterator[None]:
    """What is prepared and checked here need not outlast a power cut; the child does flush."""
    with mock.patch("os.fsync"):
        yield


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    return Roots(tmp_path_factory.mktemp("crashes"))


def leave_behind(root: Path) -> None:
    """Leave what processes do that die at their last steps, and in the middle of an upload."""
    stage = root / ".kvstore" / "stage"
    with FileSystemStore(root) as store:
        store.set("b/gone", b"gone")
        grave = root / "b" / "gone.data.meta.json"
        with mock.patch("os.replace", refuse_data(os.replace)):
            store.set("a/key", NEW, metadata={"v": "new"})
        grave.rename(stage / ("0" * 18 + ".deleted"))
        (stage / ("1" * 18 + ".json")).write_text('{"half": ')
        (stage / ("2" * 18 + "%-b%-never.data")).write_bytes(b"ha")
    assert len(list(stage.iterdir())) == 4


def refuse_data(replace: Any) -> Any:
    def refusing(source: str, target: str) -> None:
        if not target.endswith(".json"):
            raise OSError(errno.EIO, "Refused", source)
        replace(source, target)

    return refusing


Traces: TypeAlias = dict[str, Trace]


@pytest.fixture(scope="module", params=[False, True], ids=["default", "durable"])
def traces(
    roots: Roots, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Traces:
    jobs = [
        Job(kind="file", operation=name, root=roots.new(name), durable=request.param)
        for name in CASES
    ]
    traces = traced(jobs, tmp_path_factory.mktemp("trace") / "trace")
    return dict(zip(CASES, traces, strict=True))


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> bool:
    return "durable" in request.node.callspec.id


def unflushed(calls: Sequence[Call]) -> tuple[list[str], set[str]]:
    """Return files renamed before they were on the disk, and folders that are not at the end."""
    early: list[str] = []
    files: set[str] = set()
    folders: set[str] = set()
    for call in calls:
        if not call.worked:
            continue
        match call.name:
            case "openat" if "O_CREAT" in call.arguments:
                files.add(call.texts[0])
                folders.add(parent(call.texts[0]))
            case "write" | "utimensat":
                files.add(call.file)
            case "fsync":
                files.discard(call.file)
                folders.discard(call.file)
            case "rename" | "renameat" | "renameat2":
                early += files.intersection(call.texts[:1])
                folders.update(map(parent, call.texts))
            case "unlink" | "unlinkat":
                files.discard(call.texts[0])
                folders.add(parent(call.texts[0]))
            case "mkdir" | "mkdirat":
                folders.add(parent(call.texts[0]))
            case "rmdir":
                folders.discard(call.texts[0])
                folders.add(parent(call.texts[0]))
    return early, folders


def parent(path: str) -> str:
    return str(Path(path).parent)


def test_what_is_renamed_is_on_the_disk(traces: Traces) -> None:
    for operation, trace in traces.items():
        early, _ = unflushed(trace.during)
        assert early == [], operation
    assert {"rename", "renameat", "renameat2"} & {call.name for call in traces["replace"].during}


def test_what_is_acknowledged_by_a_durable_store_is_on_the_disk(
    traces: Traces, durable: bool
) -> None:
    for operation, trace in traces.items():
        if operation == "tidy up":  # changes no state
            continue
        _, folders = unflushed(trace.during)
        # Names of locks may be lost, and those of drafts of what a folder is.
        passing = ("/locks", "/stage") if operation == "connect" else ("/locks",)
        lasting = {folder for folder in folders if not folder.endswith(passing)}
        assert (lasting == set()) is durable, operation


def test_files_are_written_in_few_steps(traces: Traces, durable: bool) -> None:
    """A write flushes two files and, if durable, the folders it is in; nothing else."""
    flushes = {
        name: Counter(call.name for call in trace.during)["fsync"] for name, trace in traces.items()
    }
    assert flushes["replace"] == (2 + 3 if durable else 2)
    assert flushes["set_metadata"] == (1 + 3 if durable else 1)


def interrupted(roots: Roots, traces: Traces, error: str = "", *, durable: bool) -> list[Job]:
    """Return a job for each call of each operation to be hit, by that error if there is one."""
    return [
        Job(kind="file", operation=name, root=roots.new(name), durable=durable, burn=burn)
        for name, trace in traces.items()
        if not durable or name in DURABLE
        if error in ("", "EIO") or name in REFUSED
        for burn in hits(trace, error)
    ]


def state(store: FileSystemStore, key: str) -> State:
    try:
        value = store.get(key)
    except KeyNotFoundError:
        return None
    assert store.get_metadata(key) == value.metadata
    return value.read(), value.metadata


def check(job: Job, allowed: Sequence[State]) -> State:
    """Check that a store is in one of these states, tidy it up, and check that nothing is left."""
    case = CASES[job.operation]
    others = [] if job.operation == "connect" else [*OTHERS, "a/key", LONG]
    with mock.patch.object(filesystem, "sweep"), FileSystemStore(job.root) as store:
        found = state(store, case.key)
        assert found in allowed
    with FileSystemStore(job.root) as store:
        assert state(store, case.key) == found
        keys = {*others, case.key} - ({case.key} if found is None else set())
        for key in keys - {case.key}:
            assert state(store, key) == OTHERS.get(key, OLD)
        if store.exists("next"):
            keys.add("next")
        assert list(store.query_keys()) == sorted(keys)
        for key in keys:
            assert job.root.joinpath(*encode(key)).read_bytes() == store.get(key).read()
        data = {"/".join(encode(key)) for key in keys}
        assert files_of(job.root) == data | {sidecar(name) for name in data}
        assert list((job.root / ".kvstore" / "stage").iterdir()) == []
        store.set(case.key, b"again", metadata={"v": "again"})
        assert state(store, case.key) == (b"again", {"v": "again"})
    return found


def files_of(root: Path) -> set[str]:
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != ".kvstore"}


def test_killed_at_any_call(roots: Roots, traces: Traces, durable: bool) -> None:
    """The old pair or the new, before anybody tidies up; nothing is left after; and it goes on."""
    jobs = interrupted(roots, traces, durable=durable)
    statuses = run(jobs, "-e", f"inject={CALLS}:signal=KILL:when={WHEN}", "-o", os.devnull)
    assert statuses == [KILLED] * len(jobs)
    outcomes: dict[str, list[State]] = {}
    for job in jobs:
        outcomes.setdefault(job.operation, []).append(check(job, CASES[job.operation].states))
    for operation, found in outcomes.items():
        for expected in CASES[operation].states:
            assert expected in found, operation


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_refused_any_call(roots: Roots, traces: Traces, durable: bool, number: int) -> None:
    """An error, and all is as it was; or none, and it is done. The next operation works."""
    if durable and number != errno.EIO:
        pytest.skip("one error tells enough about the folders that a durable store flushes")
    name = errno.errorcode[number]
    jobs = interrupted(roots, traces, name, durable=durable)
    statuses = run(jobs, "-e", f"inject={CALLS}:error={name}:when={WHEN}", "-o", os.devnull)
    for job, status in zip(jobs, statuses, strict=True):
        assert status in (OK << 8, (FULL if number == errno.ENOSPC else FAILED) << 8), job
        if status == OK << 8:
            check(job, [CASES[job.operation].after])
        elif durable:  # a folder that cannot be flushed is told of when all is done
            check(job, CASES[job.operation].states)
        else:
            check(job, [CASES[job.operation].before])
    assert {status for status in statuses if status}
