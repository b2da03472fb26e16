"""Many cases of one rule in one test: an entry of a corpus costs a turn of a loop, not a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from kvstore import Store
from kvstore.testing.contract_base import case


def each(names: str, values: Iterable[Any], ids: object = None) -> Any:
    """Call the test with each of *values*, as ``pytest.mark.parametrize`` does, but in one test.

    It ends with the first that fails, and tells which. Fixtures are shared by all cases.

    Args:
        names: of the arguments, separated by commas.
        values: of one argument, or a sequence for several, or ``pytest.param`` of either.
        ids: names of the cases; their values, if it is none or a function.
    """
    arguments = [name.strip() for name in names.split(",")]
    cases = [_values(value, len(arguments)) for value in values]
    told = list(ids) if isinstance(ids, Iterable) else cases

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def loop(*args: Any, **fixtures: Any) -> None:
            for name, given in zip(told, cases, strict=True):
                with case(name):
                    test(*args, **fixtures, **dict(zip(arguments, given, strict=True)))

        signature = inspect.signature(test)
        kept = [p for p in signature.parameters.values() if p.name not in arguments]
        loop.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return loop

    return decorate


def _values(value: Any, count: int) -> tuple[Any, ...]:
    if hasattr(value, "marks"):  # of pytest.param
        return tuple(value.values)
    return (value,) if count == 1 else tuple(value)


def empty(store: Store) -> None:
    """Delete all that is in *store*, for cases that share one."""
    for key in list(store.query_keys()):
        store.delete(key)
