"""Jobs as documents (UWS 1.1 section 2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from kvstore.gateways.vospace.faults import SUMMARIES
from kvstore.gateways.vospace.jobs import LIFETIME, Job
from kvstore.gateways.vospace.markup import UWS_NAMES
from kvstore.profiles.xmltext import attribute, text_of


def job_document(job: Job) -> str:
    """Return all that a client may know of a job."""
    error = ""
    if job.fault is not None:
        message = SUMMARIES.get(job.fault, job.fault)
        error = (
            '<uws:errorSummary type="fatal" hasDetail="true">'
            f"<uws:message>{text_of(message)}</uws:message></uws:errorSummary>"
        )
    # Other jobs keep what was sent as it was, which may be no document within a document.
    info = f"<uws:jobInfo>{job.request}</uws:jobInfo>" if job.kind == "transfers" else ""
    return (
        f"<uws:job {UWS_NAMES}><uws:jobId>{job.id}</uws:jobId>"
        f"<uws:ownerId>{text_of(job.owner)}</uws:ownerId><uws:phase>{job.phase}</uws:phase>"
        f'<uws:quote xsi:nil="true"/>{_time("startTime", job.started)}'
        f"{_time('endTime', job.ended)}<uws:executionDuration>0</uws:executionDuration>"
        f"{_time('destruction', job.created + LIFETIME)}<uws:parameters/>"
        f"<uws:results>{_results(job)}</uws:results>{error}{info}</uws:job>"
    )


def jobs_document(jobs: Iterable[Job], base: str) -> str:
    """Return a list of jobs.

    Args:
        base: the URL below which they are.
    """
    listed = "".join(
        f'<uws:jobref id="{job.id}" xlink:href="{attribute(base)}/{job.id}">'
        f"<uws:phase>{job.phase}</uws:phase></uws:jobref>"
        for job in jobs
    )
    return f"<uws:jobs {UWS_NAMES}>{listed}</uws:jobs>"


def results_document(job: Job) -> str:
    """Return what came of a job."""
    return f"<uws:results {UWS_NAMES.rpartition(' ')[0]}>{_results(job)}</uws:results>"


def parameters_document() -> str:
    """Return the parameters of a job, which are none: what was sent is a document or a target."""
    return f"<uws:parameters {UWS_NAMES.rpartition(' ')[0]}/>"


def destruction_of(job: Job) -> str:
    """Return when a job is forgotten."""
    return _text_of_time(job.created + LIFETIME)


def _results(job: Job) -> str:
    return "".join(
        f'<uws:result id="{attribute(name)}" xlink:href="{attribute(url)}"/>'
        for name, url in job.results
    )


def _time(name: str, seconds: float | None) -> str:
    if seconds is None:
        return f'<uws:{name} xsi:nil="true"/>'
    return f"<uws:{name}>{_text_of_time(seconds)}</uws:{name}>"


def _text_of_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
