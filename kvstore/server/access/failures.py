"""How often wrong credentials come from where."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kvstore.errors import UnavailableError

#: Seconds in which failures are counted together.
_WINDOW = 60.0
#: Addresses that are remembered, whoever comes: the one not heard of for longest is forgotten.
_MOST = 10_000


class Failures:
    """Counts wrong credentials by address, in bounded memory. Lives on the event loop.

    Args:
        most: failures a minute from one address.
        clock: seconds, from any beginning.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        #: When the minute of an address ends, and what it has had in it.
        self._found: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def count(self, client: tuple[Any, ...] | None) -> None:
        """Take note of one from a client, as ASGI tells it; None: unknown.

        Raises:
            UnavailableError: there were too many (429); it has the seconds to wait.
        """
        address = _place(str(client[0]) if client else "")
        now = self._clock()
        end, count = self._found.pop(address, (now + _WINDOW, 0))
        if end <= now:
            end, count = now + _WINDOW, 0
        self._found[address] = end, count + 1
        if len(self._found) > _MOST:
            self._found.popitem(last=False)
        if count >= self._most:
            raise UnavailableError(
                "Too many requests with wrong credentials came from this address.",
                retry_after=math.ceil(end - now),
                status=429,
            )


def _place(address: str) -> str:
    """The address, or the network of IPv6 that one customer of a provider has all of."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
