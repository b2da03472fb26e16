"""One request and its answer: statuses become errors, and what is safe is tried again.

The only retry loop of the package. It stands above the session (adapter retries are off) and above
the reading of small bodies, and is the place where resuming a transfer will live.

=========================  ======================================================================
it failed before or while  tried again if the body can be sent again, for
=========================  ======================================================================
connecting                 every method: the server has seen nothing
sending, or waiting for    GET, HEAD; PUT and DELETE without a condition: doing it twice is as
the answer or a small one  once. With one, the second try would fail by what the first did.
429, 503                   every method: the server says that it did nothing
408, 425, 500, 502, 504    as "sending"
=========================  ======================================================================

Not tried again is what would fail the same way: a certificate that does not hold, an answer without
a length. A ``DELETE`` that is answered 404 after an earlier try that may have been carried out
(its answer was lost, or 500, 502, 504) has succeeded.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import requests
import urllib3
from urllib3.util import Retry

from kvstore.documents import parse_object
from kvstore.errors import (
    InvalidRequestError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.profiles.problems import error_of
from kvstore.transport.addresses import joined, origin_of, shown_url
from kvstore.transport.bodies import (
    BROKEN,
    INLINE,
    MAX_DOCUMENT,
    Answer,
    SourceFailedError,
    Upload,
    causes,
    close_raw,
    discard_raw,
    reason_of,
)
from kvstore.transport.connections import MalformedAnswerError
from kvstore.transport.policy import Policy
from kvstore.transport.sender import Sender

_SAFE = frozenset({"GET", "HEAD"})
_IDEMPOTENT = frozenset({"PUT", "DELETE"})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_DID_NOTHING = frozenset({429, 503})
_MAY_HAVE_DONE_IT = frozenset({500, 502, 504})
_PROBLEM_BYTES = 1 << 16
_NEVER_SENT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
_MALFORMED = (urllib3.exceptions.InvalidHeader, MalformedAnswerError)
_DONE = requests.Response()
_DONE.status_code = 204


@dataclass(slots=True)
class Request:
    """What to ask. ``body`` is bytes, an `Upload` or None."""

    method: str
    url: str
    key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Upload | None = None
    #: Statuses that are answers; every other one is an error.
    expect: Collection[int] = (200,)
    #: Whether data travels, which may take as long as it flows; else the time is limited in all.
    streaming: bool = False
    #: Whether a condition is attached, so that writing twice is not as once.
    conditional: bool = False

    def __str__(self) -> str:
        return f"{self.method} {shown_url(self.url)}"


class Exchange:
    """Sends requests by one policy. Thread-safe.

    Args:
        sender: how to send.
        sleep: for tests.
    """

    def __init__(
        self, sender: Sender, policy: Policy, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._sender = sender
        self._policy = policy
        self._sleep = sleep

    def __call__(self, request: Request) -> Answer:
        """Send *request* and return its answer, whose status is one of those expected.

        Raises:
            StoreError: what the status means (PROTOCOL: errors); TransportError when no answer
                came, UnavailableError when the server asked for more patience than there is.
        """
        tries = _Tries(self._policy, request)
        while True:
            tries.made += 1
            try:
                response = self._send(request, tries.deadline)
                status = response.status_code
                if status in request.expect:
                    return self._accepted(request, response)
                if status in (307, 308):
                    self._follow(request, response, tries)
                    continue
                error = self._refusal(request, response)
                if status == 404 and request.method == "DELETE" and tries.in_doubt:
                    return Answer(_DONE, request.method, request)
                again = tries.may_repeat(status)
            except _BrokenError as broken:
                error, again = broken.error, broken.may_repeat(request)
                tries.in_doubt |= not broken.never_sent
            pause = tries.pause(error, may_repeat=again and _has_body(request))
            if pause is None:
                raise error
            self._sleep(pause)

    def _send(self, request: Request, deadline: float | None) -> requests.Response:
        body, headers = request.body, request.headers
        if request.method not in _SAFE:
            size = body.size if isinstance(body, Upload) else len(body or b"")
            if size is not None:
                headers["Content-Length"] = str(size)
        try:
            return self._sender.send(request.method, request.url, headers, body, deadline=deadline)
        except SourceFailedError as failure:
            failed = failure.error
        except requests.HTTPError as error:  # a hook that raises for statuses, which is our task
            if error.response is None:
                raise _BrokenError(request, error) from error
            return error.response
        except ValueError as error:
            if _is_from_server(error):
                raise _BrokenError(request, error) from error
            message = f"{request} cannot be sent: {reason_of(error)}."
            raise InvalidRequestError(message, key=request.key) from error
        except BROKEN as error:
            if not isinstance(body, Upload) or body.error is None:
                raise _BrokenError(request, error) from error
            failed = body.error  # a session of the user's has wrapped it
        raise failed  # the caller's own data failed, not the network

    def _accepted(self, request: Request, response: requests.Response) -> Answer:
        answer = Answer(response, request.method, request)
        if request.method == "GET" and not (request.streaming and answer.length is None):
            try:
                answer.load(INLINE if request.streaming else MAX_DOCUMENT)
            except BROKEN as error:
                answer.close()
                raise _BrokenError(request, error) from error
        return answer

    def _refusal(self, request: Request, response: requests.Response) -> StoreError:
        status = response.status_code
        context = str(request)
        if status < 400:
            close_raw(response.raw)
            message = f"{context} was answered {status}, which is no answer to it."
            return TransportError(message, key=request.key, status=status)
        document = None
        try:
            body = Answer(response, request.method, request).read(_PROBLEM_BYTES)
            if "json" in response.headers.get("Content-Type", ""):
                document = parse_object(body)
        except (TransportError, InvalidRequestError):
            close_raw(response.raw)  # the status is what counts; no page about it can hide it
        wait = _retry_after(response)
        return error_of(status, document, key=request.key, retry_after=wait, context=context)

    def _follow(self, request: Request, response: requests.Response, tries: _Tries) -> None:
        """Turn *request* to where the answer sends it.

        Only 307 and 308 keep method and body: for the others ``requests`` would repeat a PUT
        without its body, and the answer would look like success. Elsewhere the credentials do not
        belong.

        Raises:
            TransportError: that is not to be followed.
        """
        discard_raw(response.raw)
        problem = None
        told = response.headers.get("Location")
        location = joined(request.url, told) if told else None
        if location is None:
            problem = "was redirected to no URL"
        elif origin_of(location) != origin_of(request.url):
            target = shown_url(location)
            problem = f"was redirected to {target:.200}, another origin; that is not followed"
        elif tries.redirects >= self._policy.redirects:
            problem = f"was redirected more than {tries.redirects} times"
        elif not _has_body(request):
            problem = "was redirected, and its data cannot be sent again"
        if location is None or problem is not None:
            message = f"{request} {problem}."
            raise TransportError(message, key=request.key, status=response.status_code)
        tries.redirects += 1
        tries.made -= 1
        request.url = location


class _BrokenError(Exception):
    """No answer came, or not whole."""

    def __init__(self, request: Request, cause: BaseException) -> None:
        super().__init__(str(cause))
        roots = list(causes(cause))
        self.never_sent = any(isinstance(root, _NEVER_SENT) for root in roots)
        # A certificate or a bundle of them (which requests reports as a bare OSError).
        self._is_final = (
            any(isinstance(root, ssl.SSLCertVerificationError) for root in roots)
            or type(cause) is OSError
            or _is_from_server(cause)
        )
        self.error = TransportError(f"{request} failed: {reason_of(cause)}.", key=request.key)
        self.error.__cause__ = cause

    def may_repeat(self, request: Request) -> bool:
        """Tell whether trying again is safe, and may help."""
        return not self._is_final and (self.never_sent or _is_repeatable(request))


class _Tries:
    """How often a request was tried, and when to try again."""

    __slots__ = ("_policy", "_request", "deadline", "in_doubt", "made", "redirects")

    def __init__(self, policy: Policy, request: Request) -> None:
        self.made = 0
        self.redirects = 0
        #: Whether a try may have been carried out although it was not answered so.
        self.in_doubt = False
        #: When the answer must have come, if it is small.
        self.deadline = None if request.streaming else time.monotonic() + policy.call_timeout
        self._policy = policy
        self._request = request

    def may_repeat(self, status: int) -> bool:
        """Tell whether trying again is safe, and may help, after an answer of this status."""
        self.in_doubt |= status in _MAY_HAVE_DONE_IT
        return status in _DID_NOTHING or (status in _TRANSIENT and _is_repeatable(self._request))

    def pause(self, error: StoreError, *, may_repeat: bool) -> float | None:
        """Return the seconds until the next try, or None: this was the last."""
        policy = self._policy
        if isinstance(error, TransportError):
            error.attempts = self.made
        if not may_repeat or self.made >= policy.attempts:
            return None
        asked = error.retry_after if isinstance(error, UnavailableError) else None
        if asked is None:
            doubled = policy.backoff * 2 ** min(self.made - 1, 30)
            ceiling = min(policy.backoff_limit, doubled)
            asked = random.uniform(0, ceiling)  # noqa: S311 - to spread clients, not to hide
        elif asked > policy.retry_after_limit:
            return None
        too_late = self.deadline is not None and time.monotonic() + asked >= self.deadline
        return None if too_late else asked


def _is_repeatable(request: Request) -> bool:
    return request.method in _SAFE or (request.method in _IDEMPOTENT and not request.conditional)


def _has_body(request: Request) -> bool:
    return not isinstance(request.body, Upload) or request.body.may_send


def _is_from_server(error: BaseException) -> bool:
    """Tell whether an error is about an answer that came, and is no HTTP."""
    return any(isinstance(root, _MALFORMED) for root in causes(error))


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After")
    if not value:
        return None
    try:
        return float(Retry().parse_retry_after(value))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
