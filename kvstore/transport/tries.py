"""How often something was tried, and when to try again: the only pauses of the client."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from kvstore.errors import StoreError, TransportError, UnavailableError
from kvstore.transport.policy import Policy


class Tries:
    """The tries of one request, or of all requests for one transfer that goes on after each.

    Belongs to one thread at a time.

    Args:
        policy: the limits.
        sleep: makes a pause.
        until: when the operation must be over (``time.monotonic``); None: no limit.
        is_small: whether the answer is small, so that all tries together have ``call_timeout``.
    """

    __slots__ = (
        "_came",
        "_policy",
        "_sleep",
        "_spent",
        "deadline",
        "in_doubt",
        "made",
        "redirects",
        "until",
    )

    def __init__(
        self,
        policy: Policy,
        sleep: Callable[[float], object],
        until: float | None,
        *,
        is_small: bool,
    ) -> None:
        #: Tries so far, since there was progress.
        self.made = 0
        self.redirects = 0
        #: Whether a try may have been carried out although it was not answered so.
        self.in_doubt = False
        #: When the answer must have come, if it is small.
        self.deadline = time.monotonic() + policy.call_timeout if is_small else None
        self.until = until
        self._policy = policy
        self._sleep = sleep
        self._came = 0
        self._spent = 0.0

    def received(self, count: int, seconds: float) -> None:
        """Count bytes of a transfer that came and need not come again, and the time they took."""
        self._came += count
        self._spent += seconds

    def wait(self, error: StoreError, *, may_repeat: bool = True) -> None:
        """Make the pause before the next try.

        Tries are counted anew where something was received meanwhile. What comes slower than the
        minimum rate is no progress: else a server that gives a byte to each request would be asked
        for as long as there are bytes.

        Raises:
            StoreError: *error*, as this was the last one.
        """
        if self._came and self._came >= self._policy.minimum_rate * self._spent:
            self.made = 1
        self._came, self._spent = 0, 0.0
        pause = self._pause(error, may_repeat=may_repeat)
        if pause is None:
            raise error
        self._sleep(pause)

    def _pause(self, error: StoreError, *, may_repeat: bool) -> float | None:
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
        over = time.monotonic() + asked
        if self.until is not None and over >= self.until:
            error.add_note(f"No time is left to try again (deadline: {policy.deadline:g} s).")
            return None
        return None if self.deadline is not None and over >= self.deadline else asked
