"""Has operations done in other processes, and kills these at, or refuses them, any system call.

strace does it: it counts the calls of each process and kills it, or has the call fail, at one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest

from tests.stores import crash_child
from tests.stores.children import child_process
from tests.stores.crash_child import OK

CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,utimensat,ftruncate,fallocate,flock"
)
#: Which call of a kind is hit, counted in each process; more than a whole job makes by itself, or
#: a call of another kind would be hit as well.
WHEN = 250
KILLED = 9


@dataclass(frozen=True, kw_only=True)
class Job:
    """An operation of crash_child, on a store of the kind, in the folder."""

    kind: str
    operation: str
    root: Path
    durable: bool
    #: How many calls to make beforehand that do nothing.
    burn: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps({**vars(self), "root": str(self.root)}) + "\n"


def run(jobs: Sequence[Job], *tracer: str) -> list[int]:
    """Have *jobs* done under strace with the options *tracer*; return the wait statuses."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with child_process(crash_child) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        options = ["-f", "-e", f"trace={CALLS}", *tracer, "-p", str(child.pid)]
        strace = subprocess.Popen(["strace", *options], stderr=subprocess.PIPE, text=True)
        with strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            if "attached" not in said:
                pytest.skip(f"strace may not trace here: {said.strip()}")
            statuses = []
            for job in jobs:
                child.stdin.write(job.text())
                child.stdin.flush()
                statuses.append(int(child.stdout.readline()))
            child.stdin.close()
            strace.stderr.read()
    return statuses


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    worked: bool

    @property
    def texts(self) -> list[str]:
        """The arguments in quotes: paths."""
        return re.findall(r'"((?:[^"\\]|\\.)*)"', self.arguments)

    @property
    def written(self) -> str | None:
        """The path of the file that is written to, if that is what is done."""
        return self.file if self.name in ("write", "pwrite64") else None

    @property
    def file(self) -> str:
        """The path of the open file that is the first argument."""
        found = re.match(r"\d+<([^>]*)>", self.arguments)
        assert found is not None, self.arguments
        return found[1]


@dataclass(frozen=True)
class Trace:
    """What a job calls: to connect first, where that is not the operation; then to do that."""

    before: list[Call] = field(default_factory=list)
    during: list[Call] = field(default_factory=list)


def traced(jobs: Sequence[Job], trace: Path) -> list[Trace]:
    assert run(jobs, "-y", "-s", "4000", "-o", str(trace)) == [OK << 8] * len(jobs)
    traces: dict[str, Trace] = {}
    current: dict[str, list[Call]] = {}
    for line in trace.read_text().splitlines():
        found = re.fullmatch(r"(\d+) +(\w+)\((.*)\) += (-?\d+).*", line)
        if found is None:
            continue
        process, name, arguments, result = found.groups()
        of_process = traces.setdefault(process, Trace())
        if name == "write" and '"begin"' in arguments:
            current[process] = of_process.during
        elif name == "write" and '"acknowledged"' in arguments:
            current[process] = []
        else:
            call = Call(name, arguments, result != "-1")
            current.setdefault(process, of_process.before).append(call)
    assert len(traces) == len(jobs)
    return list(traces.values())


#: Calls that have no such error to tell, whatever the file; for EIO there are none.
NEVER = {
    "EACCES": {"write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fallocate", "flock"},
    "ENOSPC": {"unlink", "unlinkat", "rmdir", "flock", "utimensat"},
}


def hits(trace: Trace, error: str = "") -> Iterator[dict[str, int]]:
    """Yield what to burn so that calls of an operation, one at a time, are hit.

    These are all that can tell of the *error*. But where a file is written to many times on end,
    as the log of a database is by one commit, the first two and the last two of these writes tell
    what those between them would.
    """
    before = Counter(call.name for call in trace.before)
    during = Counter(call.name for call in trace.during)
    for name, most in during.items():
        assert before[name] + most < WHEN, f"WHEN is too low for {name}"
    passed = Counter(before)
    for _, run_of in groupby(trace.during, key=lambda call: (call.name, call.written)):
        calls = list(run_of)
        name = calls[0].name
        for number in range(len(calls)):
            passed[name] += 1
            is_end = calls[0].written is None or not 2 <= number < len(calls) - 2
            if is_end and name not in NEVER.get(error, ()):
                yield {name: WHEN - passed[name]}
