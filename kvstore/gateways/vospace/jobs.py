"""Jobs (UWS 1.1): what a client has asked for and comes back to; files that all processes share.

Each job is a file that is replaced as a whole, and whose name begins with that of its owner. One
that is made beside it says that somebody has begun the job, another one that it is to be given up;
either is made once, whoever is first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kvstore.errors import UnavailableError
from kvstore.files import write_atomically
from kvstore.gateways.vospace.faults import Fault, invalid_argument

#: Seconds that a job is kept.
LIFETIME = 24 * 3600.0
#: Files of jobs that are kept, up to three of each; the oldest go first. Those of one owner are
#: fewer, or whoever makes many would have the jobs of all others forgotten.
_MOST, _MOST_EACH = 20_000, 2000
#: Jobs that a process makes before it looks how many there are.
_LOOK_EACH = 100
#: Seconds after which the process that does a job is taken for dead, and those between two signs
#: that it is not.
_SILENCE, SIGN = 60.0, 5.0
_ID = re.compile(r"[0-9a-f]{32}")

ACTIVE = ("QUEUED", "EXECUTING")
FINAL = ("COMPLETED", "ERROR", "ABORTED")


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is now."""

    id: str
    #: The first part of its path: which kind of job it is.
    kind: str
    #: The tag of whoever made it, who alone may see it.
    owner: str
    #: The document or the form that was sent.
    request: str
    phase: str = "PENDING"
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    #: What came of it: names and URLs.
    results: tuple[tuple[str, str], ...] = ()
    #: The name of the fault that it ended with.
    fault: str | None = None
    #: Whether it waits for its client, and not for this server.
    waits: bool = False
    #: Whether it was made with credentials that are not for writing.
    by_reader: bool = False


class Jobs:
    """The jobs of one server. Thread-safe; all methods touch the disk.

    Args:
        folder: where they are, made when it is first needed; several processes may share it. None:
            a temporary one, for the life of this object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given = folder
        self._folder: Path | None = None
        self._guard = threading.Lock()
        self._made = 0
        self._temporary: weakref.finalize[..., Jobs] | None = None

    def add(self, kind: str, owner: str, request: str, **state: Any) -> Job:
        """Make a job.

        Raises:
            UnavailableError: the folder cannot be written to.
        """
        job = Job(secrets.token_hex(16), kind, owner, request, created=time.time(), **state)
        with self._guard:
            self._made += 1
            look = self._made % _LOOK_EACH == 1
        if look:
            self._prune()
        self.put(job)
        return job

    def get(self, kind: str, name: str, owner: str) -> Job:
        """Return a job by its name.

        Raises:
            Fault: InvalidArgument: that is no name of a job; NodeNotFound: there is no such job, or
                it is somebody else's.
        """
        if not _ID.fullmatch(name):
            raise invalid_argument(f"No job is called {name!r:.100}.")
        file = self._file(owner, name)
        try:
            state = json.loads(file.read_bytes())
            touched = file.stat().st_mtime
        except FileNotFoundError:
            state = {}
        if state.get("kind") != kind or state.get("owner") != owner:
            raise Fault("NodeNotFound", 404, f"There is no job {name!r}.")
        results = tuple((str(one), str(url)) for one, url in state.pop("results"))
        job = Job(**state, results=results)
        if job.phase in ACTIVE and not job.waits and time.time() - touched > _SILENCE:
            return replace(job, phase="ERROR", fault="InternalFault", ended=touched)
        return job

    def of(self, kind: str, owner: str, most: int) -> list[Job]:
        """Return the newest jobs of one kind that somebody has made, the newest first."""
        found: list[Job] = []
        begin = _begin_of(owner)
        for _, file in reversed(self._listed()):
            if len(found) == most:
                break
            if file.startswith(begin) and file.endswith(".json"):
                name = file.removeprefix(begin).removesuffix(".json")
                with contextlib.suppress(Fault):
                    found.append(self.get(kind, name, owner))
        return found

    def put(self, job: Job) -> None:
        """Store a job as it is now."""
        try:
            write_atomically(self._file(job.owner, job.id), [json.dumps(asdict(job)).encode()])
        except OSError as error:
            message = f"The job cannot be kept: {error.strerror}."
            raise UnavailableError(message, retry_after=5) from error

    def claim(self, job: Job) -> bool:
        """Take a job to do it, or to end it before it begins; tell whether nobody has before."""
        return self._make(job, ".claim")

    def give_up(self, job: Job) -> None:
        """Ask whoever does a job to end it."""
        self._make(job, ".abort")

    def is_given_up(self, job: Job) -> bool:
        """Whether somebody has asked for that."""
        return self._file(job.owner, job.id).with_suffix(".abort").exists()

    def sign(self, job: Job) -> None:
        """Say that a job is being done still."""
        with contextlib.suppress(OSError):
            os.utime(self._file(job.owner, job.id))

    def remove(self, job: Job) -> None:
        """Forget a job; one that is being done is given up."""
        if job.phase in ACTIVE:
            self.give_up(job)
        for suffix in (".json", ".claim", ".abort"):
            with contextlib.suppress(OSError):
                self._file(job.owner, job.id).with_suffix(suffix).unlink()

    def _make(self, job: Job, suffix: str) -> bool:
        try:
            self._file(job.owner, job.id).with_suffix(suffix).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError as error:
            message = f"The job cannot be kept: {error.strerror}."
            raise UnavailableError(message, retry_after=5) from error
        return True

    def _file(self, owner: str, name: str) -> Path:
        return self._open() / f"{_begin_of(owner)}{name}.json"

    def _open(self) -> Path:
        with self._guard:
            if self._folder is None:
                if self._given is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="kvstore-vospace-"))
                    self._temporary = weakref.finalize(
                        self, shutil.rmtree, self._folder, ignore_errors=True
                    )
                else:
                    self._given.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._folder = self._given
            return self._folder

    def _listed(self) -> list[tuple[float, str]]:
        """The files of the folder, the oldest first."""
        found: list[tuple[float, str]] = []
        with os.scandir(self._open()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append((entry.stat().st_mtime, entry.name))
        return sorted(found)

    def _prune(self) -> None:
        found = self._listed()
        surplus = max(0, len(found) - _MOST)
        oldest = time.time() - LIFETIME
        left = Counter(_owner_in(name) for _, name in found)
        for number, (touched, name) in enumerate(found):
            owner = _owner_in(name)
            if touched <= oldest or number < surplus or left[owner] > _MOST_EACH:
                left[owner] -= 1
                with contextlib.suppress(OSError):
                    (self._open() / name).unlink()


def _begin_of(owner: str) -> str:
    """What the names of the files of an owner begin with, whose tag may be no name of a file."""
    return f"{hashlib.sha256(owner.encode()).hexdigest()[:16]}-"


def _owner_in(name: str) -> str:
    return name.partition("-")[0]
