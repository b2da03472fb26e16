"""One request and its answer: statuses become errors, and what is safe is tried again.

The only retry loop of the package. It stands above the session (adapter retries are off) and above
the reading of small bodies. `resuming` goes on with large ones, and counts by the same `Tries`.

=========================  ======================================================================
it failed before or while  tried again if the body can be sent again, for
=========================  ======================================================================
connecting                 every method: the server has seen nothing
sending, or waiting for    GET, HEAD; PUT and DELETE: doing it twice is as once, or refused by the
the answer or a small one  condition
429, 503                   every method: the server says that it did nothing
408, 425, 500, 502, 504    as "sending"
=========================  ======================================================================

Not tried again is what would fail the same way: a certificate that does not hold, an answer without
a length. After a try that may have been carried out (its answer was lost, or 500, 502, 504) a
``DELETE`` that is answered 404 has succeeded, and where a condition fails, or no try is left, it is
looked up whether the server has what was sent: then the write has succeeded, too.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import requests
import urllib3
from urllib3.util import Retry

from kvstore.documents import parse_object
from kvstore.errors import (
    ConflictError,
    InvalidRequestError,
    StoreError,
    TransportError,
)
from kvstore.profiles.problems import error_of, quoted, request_id_of
from kvstore.transport.addresses import joined, origin_of, shown_url
from kvstore.transport.bodies import BROKEN, INLINE, MAX_DOCUMENT, Answer, close_raw, discard_raw
from kvstore.transport.connections import MalformedAnswerError
from kvstore.transport.policy import Patience, Policy
from kvstore.transport.reasons import causes, reason_of
from kvstore.transport.sender import Sender
from kvstore.transport.tries import Tries
from kvstore.transport.upload import SourceFailedError, Upload

_SAFE = frozenset({"GET", "HEAD"})
_IDEMPOTENT = frozenset({"PUT", "DELETE"})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_DID_NOTHING = frozenset({429, 503})
_MAY_HAVE_DONE_IT = frozenset({500, 502, 504})
_PROBLEM_BYTES = 1 << 16
#: Bytes of data that are asked for whole as often as it takes.
_LITTLE = 1 << 14
_NEVER_SENT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
_MALFORMED = (urllib3.exceptions.InvalidHeader, MalformedAnswerError)


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
    #: Whether twice is as once although the method does not say so.
    repeatable: bool = False
    #: Looks up whether the server has what was sent under a condition, and returns the header
    #: fields that say of which revision; None if it has not.
    confirm: Callable[[], Mapping[str, str] | None] | None = None

    def __str__(self) -> str:
        return f"{self.method} {shown_url(self.url)}"


class Exchange:
    """Sends requests by one policy. Thread-safe.

    Args:
        sender: how to send.
        sleep: for tests.
        until: when all that is sent must be over (``time.monotonic``); None: each request has the
            deadline of the policy.
    """

    def __init__(
        self,
        sender: Sender,
        policy: Policy,
        *,
        sleep: Callable[[float], object] = time.sleep,
        until: float | None = None,
    ) -> None:
        self._sender = sender
        self._policy = policy
        self._sleep = sleep
        self._until = until

    @property
    def policy(self) -> Policy:
        """The limits."""
        return self._policy

    def without_rate(self) -> Exchange:
        """Return one that sends the same way, and lets a body be silent between its heartbeats."""
        policy = replace(self._policy, minimum_rate=0, deadline=None)
        return Exchange(self._sender, policy, sleep=self._sleep)

    def begun(self) -> Exchange:
        """Return one for all requests of an operation that begins now and has one deadline."""
        deadline = self._policy.deadline
        if deadline is None:
            return self
        until = time.monotonic() + deadline
        return Exchange(self._sender, self._policy, sleep=self._sleep, until=until)

    def pausing(self, sleep: Callable[[float], object]) -> Exchange:
        """Return one that makes its pauses so, as by a wait that can be ended."""
        return Exchange(self._sender, self._policy, sleep=sleep, until=self._until)

    def tries(self, *, is_small: bool) -> Tries:
        """Return the tries for requests that belong together; see `Tries`."""
        until = self._until
        if until is None and self._policy.deadline is not None:
            until = time.monotonic() + self._policy.deadline
        return Tries(self._policy, self._sleep, until, is_small=is_small)

    def __call__(self, request: Request, tries: Tries | None = None) -> Answer:
        """Send *request* and return its answer, whose status is one of those expected.

        Args:
            tries: those of the transfer that this is a part of.

        Raises:
            StoreError: what the status means (PROTOCOL: errors); TransportError when no answer
                came, UnavailableError when the server asked for more patience than there is.
        """
        tries = tries or self.tries(is_small=not request.streaming)
        while True:
            tries.made += 1
            try:
                response = self._send(request, tries)
                status = response.status_code
                if status in request.expect:
                    return self._accepted(request, response, tries)
                if status in (307, 308):
                    self._follow(request, response, tries)
                    continue
                error = self._refusal(request, response)
                if status == 404 and request.method == "DELETE" and tries.in_doubt:
                    return _done(request, {})
                tries.in_doubt |= status in _MAY_HAVE_DONE_IT
                again = _may_repeat(request, status)
            except _BrokenError as broken:
                error, again = broken.error, broken.may_repeat(request)
                tries.in_doubt |= not broken.never_sent
            if again and not _has_body(request):
                again = False
                error.message += " Its data came from a stream and cannot be sent again."
            try:
                tries.wait(error, may_repeat=again)
            except StoreError:
                if not tries.in_doubt or not isinstance(error, (TransportError, ConflictError)):
                    raise
                fields = self._confirmed(request, error)
                if fields is None:
                    raise
                return _done(request, fields)

    def _send(self, request: Request, tries: Tries) -> requests.Response:
        body, headers = request.body, request.headers
        once = not _is_repeatable(request) or (isinstance(body, Upload) and not body.replayable)
        patience = Patience(self._policy, tries.deadline, tries.until, once=once)
        if request.method not in _SAFE:
            size = body.size if isinstance(body, Upload) else len(body or b"")
            if size is not None:
                headers["Content-Length"] = str(size)
        try:
            return self._sender.send(request.method, request.url, headers, body, patience=patience)
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

    def _accepted(self, request: Request, response: requests.Response, tries: Tries) -> Answer:
        answer = Answer(response, request.method, request)
        if request.method == "GET" and not (request.streaming and answer.length is None):
            # What did not come whole the first time is read as far as it comes; of the rest of
            # something every byte is progress.
            again = 0 if "Range" in request.headers else _LITTLE
            inline = INLINE if tries.made == 1 else again
            try:
                answer.load(inline if request.streaming else MAX_DOCUMENT)
            except BROKEN as error:
                answer.close()
                raise _BrokenError(request, error, request_id_of(answer.headers)) from error
        return answer

    def _confirmed(self, request: Request, error: StoreError) -> Mapping[str, str] | None:
        if request.confirm is None:
            return None
        try:
            fields = request.confirm()
        except StoreError:
            return None
        if fields is None and isinstance(error, ConflictError):
            error.add_note("An earlier try, whose answer was lost, may have been carried out.")
        return fields

    def _refusal(self, request: Request, response: requests.Response) -> StoreError:
        status = response.status_code
        context = str(request)
        request_id = request_id_of(response.headers)
        if status < 400:
            close_raw(response.raw)
            told = f"which is no answer to it{quoted(request_id)}"
            message = f"{context} was answered {status}, {told}."
            return TransportError(message, key=request.key, status=status, request_id=request_id)
        document = None
        try:
            body = Answer(response, request.method, request).read(_PROBLEM_BYTES)
            if "json" in response.headers.get("Content-Type", ""):
                document = parse_object(body)
        except (TransportError, InvalidRequestError):
            close_raw(response.raw)  # the status is what counts; no page about it can hide it
        return error_of(
            status,
            document,
            key=request.key,
            retry_after=_retry_after(response),
            request_id=request_id,
            context=context,
        )

    def _follow(self, request: Request, response: requests.Response, tries: Tries) -> None:
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
            request_id = request_id_of(response.headers)
            status, message = response.status_code, f"{request} {problem}{quoted(request_id)}."
            raise TransportError(message, key=request.key, status=status, request_id=request_id)
        tries.redirects += 1
        tries.made -= 1
        request.url = location


class _BrokenError(Exception):
    """No answer came, or not whole."""

    def __init__(
        self, request: Request, cause: BaseException, request_id: str | None = None
    ) -> None:
        super().__init__(str(cause))
        roots = list(causes(cause))
        self.never_sent = any(isinstance(root, _NEVER_SENT) for root in roots)
        # A certificate or a bundle of them (which requests reports as a bare OSError).
        self._is_final = (
            any(isinstance(root, ssl.SSLCertVerificationError) for root in roots)
            or type(cause) is OSError
            or _is_from_server(cause)
        )
        message = f"{request} failed: {reason_of(cause)}{quoted(request_id)}."
        self.error = TransportError(message, key=request.key, request_id=request_id)
        self.error.__cause__ = cause

    def may_repeat(self, request: Request) -> bool:
        """Tell whether trying again is safe, and may help."""
        return not self._is_final and (self.never_sent or _is_repeatable(request))


def _may_repeat(request: Request, status: int) -> bool:
    """Tell whether trying again is safe, and may help, after an answer of this status."""
    return status in _DID_NOTHING or (status in _TRANSIENT and _is_repeatable(request))


def _is_repeatable(request: Request) -> bool:
    if request.repeatable or request.method in _SAFE:
        return True
    is_checked = not request.conditional or request.confirm is not None
    return request.method in _IDEMPOTENT and is_checked


def _done(request: Request, fields: Mapping[str, str]) -> Answer:
    """Return the answer to a write that was lost."""
    response = requests.Response()
    response.status_code = 201 if "If-None-Match" in request.headers else 204
    response.headers.update({"Content-Length": "0", **fields})
    return Answer(response, request.method, request)


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
