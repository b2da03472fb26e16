"""``/synctrans``, ``/transfers`` and what is below: jobs made, begun, looked at and given up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from kvstore.errors import StoreError
from kvstore.gateways.vospace.asking import Asking, form_of, plain_reply, see_other, xml_reply
from kvstore.gateways.vospace.faults import fault_of, invalid_argument, unsupported
from kvstore.gateways.vospace.job_documents import (
    destruction_of,
    job_document,
    jobs_document,
    parameters_document,
    results_document,
)
from kvstore.gateways.vospace.jobs import ACTIVE, FINAL, Job
from kvstore.gateways.vospace.negotiation import endpoints
from kvstore.gateways.vospace.node_documents import read_node
from kvstore.gateways.vospace.transfers import Protocol, Transfer, document_of, read_transfer
from kvstore.gateways.vospace.work import endpoint_query, while_allowed, work_of
from kvstore.server.access.callers import READER
from kvstore.server.answers import Refusal, Reply

TRANSFERS, DELETE, SETPROPS = "transfers", "async-delete", "async-setprops"
_MOST_BYTES = 1 << 16
_MOST_LISTED = 100
#: Seconds that a client may wait for a job, and those between two looks at it, first and at most:
#: hundreds may wait, and each look is one at the disk.
_MOST_WAIT, _LOOK, _LATE_LOOK = 30.0, 0.1, 1.0


async def post_synctrans(asking: Asking) -> Reply:
    """Answer POST: 303 to a document that says where; a job that has ended already."""
    asked = asking.parameters()
    if "TARGET" in asked:
        return await asking.site.workers.run(_shortcut, asking, asked)
    body = await _small(asking)

    def negotiate() -> Reply:
        transfer = read_transfer(body)
        job = _negotiated(asking, transfer)
        return see_other(f"{asking.base}/transfers/{job.id}/results/transferDetails")

    return await asking.site.workers.run(negotiate)


async def get_synctrans(asking: Asking) -> Reply:
    """Answer GET: the document at once, or with ``REQUEST=redirect`` 303 to the bytes."""
    return await asking.site.workers.run(_shortcut, asking, asking.parameters())


async def post_job(asking: Asking, kind: str) -> Reply:
    """Answer POST: 303 to the job that was made."""
    runs = asking.parameters().get("PHASE", "").upper() == "RUN"
    if runs:
        _check_room(asking)
    body = await _small(asking)

    def make() -> Job:
        request = _request_of(asking, kind, body)
        return asking.jobs.add(kind, asking.owner, request, by_reader=asking.only_reads)

    job = await asking.site.workers.run(make)
    if runs:
        await _begin(asking, job)
    return see_other(_url(asking, job))


async def get_jobs(asking: Asking, kind: str) -> Reply:
    """Answer GET: the newest jobs of the caller.

    Of those that nobody has a name for none is listed: only who made one knows what it is called.
    """
    if asking.site.caller is READER:
        return xml_reply(jobs_document([], f"{asking.base}/{kind}"))
    found = await asking.site.workers.run_long(asking.jobs.of, kind, asking.owner, _MOST_LISTED)
    return xml_reply(jobs_document(found, f"{asking.base}/{kind}"))


async def job_request(asking: Asking, kind: str, path: str) -> Reply | None:
    """Answer what is asked of one job; None: there is no such URL, or no such method for it.

    Args:
        path: what follows the kind of the job, without a slash at its ends.
    """
    name, _, part = path.partition("/")
    job = await asking.site.workers.run(asking.jobs.get, kind, name, asking.owner)
    method = asking.exchange.method
    if method in ("GET", "HEAD"):
        return await _read(asking, job, part)
    _demand_change(asking, job)
    if method == "DELETE" and not part:
        await asking.site.workers.run(asking.jobs.remove, job)
        return see_other(f"{asking.base}/{kind}")
    if method == "POST" and part in ("phase", ""):
        form = form_of(await _small(asking))
        await _set_phase(asking, job, form)
        return see_other(_url(asking, job))
    return None


def _check_room(asking: Asking) -> None:
    # Where nobody is told apart all are one owner.
    asking.runner.check(None if asking.site.caller is None else asking.owner)


def _demand_change(asking: Asking, job: Job) -> None:
    """Refuse to change a job of credentials that may do more than those of this request.

    Raises:
        AuthorizationError: these are only for reading, and the others are not.
    """
    if asking.site.caller is not None and not job.by_reader:
        asking.site.caller.demand("write")


async def _read(asking: Asking, job: Job, part: str) -> Reply | None:
    if not part:
        return xml_reply(job_document(await _awaited(asking, job)))
    if part == "results/transferDetails":
        return await asking.site.workers.run(_details, asking, job)
    texts = {
        "phase": job.phase,
        "error": job.fault or "",
        "owner": job.owner,
        "quote": "",
        "executionduration": "0",
        "destruction": destruction_of(job),
    }
    if part == "results":
        return xml_reply(results_document(job))
    if part == "parameters":
        return xml_reply(parameters_document())
    return plain_reply(texts[part]) if part in texts else None


def _details(asking: Asking, job: Job) -> Reply:
    if job.kind != TRANSFERS:
        raise invalid_argument("Only transfers have details.")
    transfer = read_transfer(job.request.encode())
    if transfer.is_internal:
        raise invalid_argument("From one node to another there is nothing to be transferred.")
    if job.phase in ("PENDING", "QUEUED"):
        raise invalid_argument(f"The job is {job.phase}: its details come once it is begun.")
    protocols: list[Protocol] = []
    if job.fault is None and job.phase != "ABORTED":
        query = endpoint_query(job) if job.waits else ""
        protocols = endpoints(asking.tree, _placed(transfer, job), asking.base, query)
    return xml_reply(document_of(transfer, protocols))


def _placed(transfer: Transfer, job: Job) -> Transfer:
    """The transfer with the target that was chosen for it, where the client left that open."""
    chosen = dict(job.results).get("target")
    return transfer if chosen is None else replace(transfer, target=chosen)


def _negotiated(asking: Asking, transfer: Transfer) -> Job:
    state: dict[str, object] = {"phase": "COMPLETED", "ended": time.time()}
    state["by_reader"] = asking.only_reads
    try:
        if transfer.is_internal:
            raise unsupported("Moving and copying are jobs, at /transfers.")
        endpoints(asking.tree, transfer, asking.base)
    except (Refusal, StoreError) as error:
        state |= {"phase": "ERROR", "fault": fault_of(error).name}
    request = document_of(transfer, transfer.protocols)
    return asking.jobs.add(TRANSFERS, asking.owner, request, **state)


def _shortcut(asking: Asking, asked: dict[str, str]) -> Reply:
    for name in ("TARGET", "DIRECTION", "PROTOCOL"):
        if name not in asked:
            raise invalid_argument(f"The parameter {name} is missing.")
    methods = tuple(filter(None, [asked.get("SECURITYMETHOD")]))
    protocol = Protocol(asked["PROTOCOL"], None, methods)
    transfer = Transfer(asked["TARGET"], asked["DIRECTION"], asked.get("VIEW"), (protocol,))
    found = endpoints(asking.tree, transfer, asking.base)
    if asked.get("REQUEST") == "redirect" and transfer.direction == "pullFromVoSpace":
        return see_other(found[0].endpoint or "")
    return xml_reply(document_of(transfer, found))


def _request_of(asking: Asking, kind: str, body: bytes) -> str:
    if kind == DELETE:
        target = form_of(body).get("TARGET")
        if not target:
            raise invalid_argument("The form has a target, the URI of a node.")
        asking.space.path(target)
        return target
    if kind == SETPROPS:
        asking.space.path(read_node(body).uri)
        return body.decode()
    transfer = read_transfer(body)
    return document_of(transfer, transfer.protocols)


async def _set_phase(asking: Asking, job: Job, form: dict[str, str]) -> None:
    phase = form.get("PHASE", "").upper()
    if phase == "RUN":
        await _begin(asking, job)
    elif phase == "ABORT":
        await asking.site.workers.run(_abort, asking, job)
    else:
        raise invalid_argument(f"PHASE is RUN or ABORT, not {phase!r:.50}.")


async def _begin(asking: Asking, job: Job) -> None:
    _check_room(asking)
    if job.phase != "PENDING" or not await asking.site.workers.run(asking.jobs.claim, job):
        return  # it was begun before
    work = work_of(asking, job)
    if work is None:
        await asking.site.workers.run(_open, asking, job)
        return
    work = while_allowed(work, asking.site.caller)
    await asking.runner.run(asking.jobs, asking.site.workers, job, work)


def _open(asking: Asking, job: Job) -> None:
    """Begin a transfer, which lasts until the client has sent or fetched the bytes."""
    transfer = read_transfer(job.request.encode())
    now = time.time()
    details = (("transferDetails", f"{_url(asking, job)}/results/transferDetails"),)
    try:
        endpoints(asking.tree, transfer, asking.base)
    except (Refusal, StoreError) as error:
        fault = fault_of(error).name
        job = replace(job, phase="ERROR", fault=fault, started=now, ended=now, results=details)
    else:
        job = replace(job, phase="EXECUTING", started=now, results=details, waits=True)
    asking.jobs.put(job)


def _abort(asking: Asking, job: Job) -> None:
    if job.phase in FINAL:
        return
    if asking.jobs.claim(job) or job.waits:
        asking.jobs.put(replace(job, phase="ABORTED", ended=time.time()))
    else:
        asking.jobs.give_up(job)


async def _awaited(asking: Asking, job: Job) -> Job:
    """The job once its phase is another one, or the client has waited for as long as it wants."""
    text = asking.parameters().get("WAIT")
    if text is None:
        return job
    try:
        seconds = float(text)
    except ValueError:
        raise invalid_argument(f"WAIT is a number of seconds, not {text!r:.50}.") from None
    seconds = _MOST_WAIT if not 0 <= seconds <= _MOST_WAIT else seconds
    end = time.monotonic() + seconds
    first, pause = job.phase, _LOOK
    async with asking.exchange.watched():
        while job.phase == first and job.phase in ("PENDING", *ACTIVE):
            if time.monotonic() >= end or asking.exchange.gone:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LATE_LOOK)
            job = await asking.site.workers.run(asking.jobs.get, job.kind, job.id, asking.owner)
    return job


async def _small(asking: Asking) -> bytes:
    asking.exchange.body.check_length(_MOST_BYTES)
    return await asking.exchange.body.gather()


def _url(asking: Asking, job: Job) -> str:
    return f"{asking.base}/{job.kind}/{job.id}"
