"""How long to wait and how often to try: every default of the client, in one place."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, fields

from kvstore.errors import InvalidRequestError
from kvstore.parallel import QUICK

_POSITIVE = ("timeout", "attempts", "workers", "deadline", "ranges")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits of the conversation with a server. Times are in seconds.

    Raises:
        InvalidRequestError: a limit that is none: no number, negative, or a time that is 0.
    """

    #: To open a connection.
    connect_timeout: float = 5.0
    #: Between two arrivals of bytes.
    read_timeout: float = 30.0
    #: To hand 128 KiB of a body to the network.
    write_timeout: float = 60.0
    #: For a call whose answer is small, all its tries together, and for the header block of any
    #: answer; bodies of data have a minimum rate instead.
    call_timeout: float = 120.0
    #: Bytes a second that a body of data must reach, on average over ``rate_window`` seconds that
    #: were spent waiting for it.
    minimum_rate: float = 1024.0
    rate_window: float = 60.0
    #: For a whole operation: its tries, pauses, bodies and the reading of what it returned as a
    #: stream. None: bodies of data have the minimum rate alone.
    deadline: float | None = None
    #: How often a request is sent at most, the first time included. See `exchange` for which.
    attempts: int = 4
    #: First pause before trying again; it doubles, and is drawn at random from 0 to that.
    backoff: float = 0.2
    backoff_limit: float = 10.0
    #: Longest pause that a server may ask for; with a longer one the call fails at once.
    retry_after_limit: float = 60.0
    #: Redirects (307 and 308, to the same origin) that are followed in a row.
    redirects: int = 5
    #: Requests under way at a time in calls about many keys, each on a connection of its own.
    workers: int = 16
    #: As long as such requests take no longer than this, they are made one by one.
    quick: float = QUICK
    #: Connections for the download of one large value into a file, each for other ranges of it.
    ranges: int = 1
    #: Bytes from which an upload is resumable where the server can: what has arrived of it stays.
    resumable_size: int = 64 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is None and field.name == "deadline":
                continue
            numbers = int if field.type == "int" else (int, float)
            is_number = isinstance(limit, numbers) and not isinstance(limit, bool)
            may_be_zero = not field.name.endswith(_POSITIVE)
            if not is_number or not (limit > 0 or (limit == 0 and may_be_zero)):
                raise InvalidRequestError(f"{field.name} of a Policy is not {limit!r:.50}.")


DEFAULT_POLICY = Policy()


class Patience:
    """What is left of the time for one answer. Belongs to the thread that reads it.

    Args:
        policy: the limits.
        deadline: when the answer must have come whole (``time.monotonic``); None for data, whose
            header block has ``call_timeout`` and whose body has a minimum rate.
        until: when the operation must be over that this answer is for; None: no limit.
        once: whether the request must not be sent again after a failure, and so not over a
            connection that the server may be about to close.
    """

    __slots__ = ("_bytes", "_deadline", "_fires", "_is_data", "_waited", "once", "policy", "until")

    def __init__(
        self,
        policy: Policy,
        deadline: float | None = None,
        until: float | None = None,
        *,
        once: bool = False,
    ) -> None:
        self.policy = policy
        self.until = until
        self.once = once
        self._deadline = deadline
        self._is_data = deadline is None
        self._fires = "read_timeout"
        self._bytes = 0
        self._waited = 0.0

    def begin(self) -> None:
        """Begin to wait for the answer, now that the request was sent."""
        if self._is_data:
            self._deadline = time.monotonic() + self.policy.call_timeout

    def body(self) -> None:
        """Go on to the body, now that the header block has come."""
        if self._is_data:
            self._deadline = None

    def wait(self) -> float:
        """Return the seconds that the next read may take.

        Raises:
            TimeoutError: there are none left.
        """
        return self._within(self.policy.read_timeout, "read_timeout", self._deadline)

    def connecting(self) -> float:
        """Return the seconds to open a connection; TimeoutError as for `wait`."""
        return self._within(self.policy.connect_timeout, "connect_timeout", None)

    def writing(self) -> float:
        """Return the seconds for the next piece of a request's body; TimeoutError as for `wait`."""
        return self._within(self.policy.write_timeout, "write_timeout", None)

    def expired(self, wait: float) -> TimeoutError:
        """Return the error for what did not happen within the seconds that it had."""
        policy, fired = self.policy, self._fires
        if fired == "call_timeout":
            took = f"the answer took longer than {policy.call_timeout:g} s in all"
        elif fired == "deadline":
            took = f"the operation took longer than {policy.deadline:g} s in all"
        elif fired == "connect_timeout":
            took = f"no connection was made within {wait:g} s"
        elif fired == "write_timeout":
            took = f"nothing was taken for {wait:g} s"
        else:
            took = f"nothing came for {wait:g} s"
        return TimeoutError(f"timed out, as {took} ({fired})")

    def received(self, count: int, waited: float) -> None:
        """Count the bytes that came, and judge their rate where there is no deadline.

        The time that the reader takes between two reads does not count: that is not the server's.

        Raises:
            TimeoutError: the rate is too low.
        """
        if self._deadline is not None:
            return
        self._bytes += count
        self._waited += waited
        policy = self.policy
        if self._waited < policy.rate_window:
            return
        if self._bytes < policy.minimum_rate * self._waited:
            came = f"{self._bytes} bytes came in {self._waited:.3g} s"
            limit = f"fewer than {policy.minimum_rate:g} a second (minimum_rate)"
            raise TimeoutError(f"timed out, as {came}, {limit}")
        self._bytes = 0
        self._waited = 0.0

    def _within(self, seconds: float, name: str, deadline: float | None) -> float:
        self._fires = name
        if deadline is None and self.until is None:
            return seconds
        now = time.monotonic()
        for end, limit in ((deadline, "call_timeout"), (self.until, "deadline")):
            if end is not None and end - now < seconds:
                seconds, self._fires = end - now, limit
        if seconds <= 0:
            raise self.expired(0)
        return seconds


class _Current(threading.local):
    patience: Patience | None = None


#: The patience for the answer that this thread is about to read; connections look here, since no
#: argument of ``requests`` reaches them.
CURRENT = _Current()
