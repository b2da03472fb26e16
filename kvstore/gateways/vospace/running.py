"""Jobs being done: in threads of the server, each in one process, which says that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from kvstore.errors import StoreError, UnavailableError
from kvstore.gateways.vospace.faults import fault_of
from kvstore.gateways.vospace.jobs import SIGN, Job, Jobs
from kvstore.server.answers import Refusal
from kvstore.server.workers import Workers

#: Jobs that one process does at a time; it has no more than 64 threads for what takes long.
_MOST = 16
#: Those of one owner, so that others can have some done, too.
_MOST_EACH = 4
#: Seconds that a client waits for the end of a job that it has begun before it is answered.
_PATIENCE = 2.0

_log = logging.getLogger("kvstore.server")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job has ended."""

    phase: str = "COMPLETED"
    results: Sequence[tuple[str, str]] = ()
    fault: str | None = None


#: Does a job; it calls what it is given often, which raises where the job is given up.
Work: TypeAlias = Callable[[Callable[[], None]], Outcome]


class GivenUp(Exception):  # noqa: N818 - its client wants it so
    """The job is to be ended."""


class Runner:
    """Does the jobs of one process. Lives on the event loop."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}

    def check(self, owner: str | None) -> None:
        """Refuse to begin another job while there are many.

        Args:
            owner: None: users are not told apart.

        Raises:
            UnavailableError: there are, of this owner or in all.
        """
        owners = list(self._tasks.values())
        if len(owners) >= _MOST or owners.count(owner or "") >= _MOST_EACH:
            raise UnavailableError("Many jobs are being done; try again later.", retry_after=5)

    async def run(self, jobs: Jobs, workers: Workers, job: Job, work: Work) -> None:
        """Begin a job that was claimed; return when it has ended, or after two seconds."""
        task = asyncio.create_task(self._run(jobs, workers, job, work))
        self._tasks[task] = job.owner
        task.add_done_callback(self._tasks.pop)
        await asyncio.wait({task}, timeout=_PATIENCE)

    async def _run(self, jobs: Jobs, workers: Workers, job: Job, work: Work) -> None:
        job = replace(job, phase="EXECUTING", started=time.time())
        await workers.run(jobs.put, job)

        server_ended = threading.Event()

        def halt() -> None:
            if server_ended.is_set() or jobs.is_given_up(job):
                raise GivenUp

        doing = asyncio.ensure_future(workers.run_long(_outcome, work, halt, job))
        try:
            while not doing.done():
                await asyncio.wait({doing}, timeout=SIGN)
                await workers.run(jobs.sign, job)
        except asyncio.CancelledError:
            server_ended.set()  # else its thread would keep the process from ending
            raise
        ended = doing.result()
        job = replace(
            job,
            phase=ended.phase,
            results=tuple(ended.results),
            fault=ended.fault,
            ended=time.time(),
        )
        with contextlib.suppress(StoreError):
            await workers.run(jobs.put, job)


def _outcome(work: Work, halt: Callable[[], None], job: Job) -> Outcome:
    try:
        return work(halt)
    except GivenUp:
        return Outcome("ABORTED")
    except Exception as error:  # noqa: BLE001 - whatever it is, the job has ended
        if not isinstance(error, (StoreError, Refusal)):
            _log.error("The job %s failed", job.id, exc_info=error)
        return Outcome("ERROR", fault=fault_of(error).name)
