"""New numbers for datasets, each given once, however many ask for them in however many processes.

A number is taken by a key of the dataset's own name that did not exist before. That the store
decides, so nothing needs to be locked or remembered here.
"""

from __future__ import annotations

from kvstore.errors import AuthorizationError, ConflictError, StorageFullError, UnavailableError
from kvstore.gateways.datasafe.datasets import FIELD, reservation
from kvstore.gateways.datasafe.lois import Loi, number_in
from kvstore.query import Query
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.writes import Change, Condition

_TRIES = 1000
_MOST = 10**18


def mint(site: Site, family: Loi) -> Loi:
    """Reserve the next number and return the identifier with it.

    Raises:
        UnavailableError: too many others ask for one at the same time.
        StorageFullError: the numbers are used up.
        StoreError: the key cannot be made.
    """
    store = site.writer
    number, step = _highest(site, family) + 1, 1
    for _ in range(_TRIES):
        if number >= _MOST:
            raise StorageFullError(f"There is no number left for {str(family)!a:.100}.")
        loi = Loi(family.family, number)
        if _is_used(site, loi):
            number += 1
            continue
        change = Change(
            data=Source(b""),
            metadata={FIELD: reservation(loi)},
            condition=Condition(create_only=True),
        )
        try:
            store.write(str(loi), change)
        except ConflictError:
            number += 1  # somebody was faster
        except AuthorizationError:
            # There are keys that this user does not see. To pass by thousands of them one by one
            # would take too long, and numbers may have gaps.
            number += step
            step *= 2
        else:
            return loi
    raise UnavailableError("Too many ask for a number at the same time.", retry_after=1.0)


def _highest(site: Site, family: Loi) -> int:
    prefix = f"{family}/"
    order = Query(prefix=prefix, order_by=f"-{FIELD}.number", limit=1)
    for record in site.records(order):
        number = number_in(family.family, record.key)
        facts = record.metadata.get(FIELD)
        if number is not None and isinstance(facts, dict) and facts.get("number") == number:
            return number
    # Nobody has reserved any, or a client has changed what was written down.
    numbers = (number_in(family.family, record.key) for record in site.keys(Query(prefix=prefix)))
    return max((number for number in numbers if number is not None), default=0)


def _is_used(site: Site, loi: Loi) -> bool:
    """Tell whether other clients have put files there without a reservation."""
    return next(iter(site.keys(Query(prefix=f"{loi}/", limit=1))), None) is not None
