"""What filters and equality mean, written a second time and as simply as possible.

The model of the state machine judges stores by it, so it shares no code with ``kvstore.query``:
a mistake there must not be repeated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ABSENT: Any = ("absent",)


def plain(value: Any) -> Any:
    """Return a hashable value that is equal for equal JSON values and different for others."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, (int, float)):
        return "number", value
    if isinstance(value, str):
        return "string", value
    if isinstance(value, list):
        return "array", tuple(plain(item) for item in value)
    return "object", frozenset((name, plain(item)) for name, item in value.items())


def equal(a: Any, b: Any) -> bool:
    """Tell whether two JSON values are equal."""
    return bool(plain(a) == plain(b))


def holds(where: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Tell whether the metadata fit the filter."""
    for name, wanted in where.items():
        if name == "all":
            fits = all(holds(part, metadata) for part in wanted)
        elif name == "any":
            fits = any(holds(part, metadata) for part in wanted)
        elif name == "not":
            fits = not holds(wanted, metadata)
        else:
            fits = _field_fits(_found(metadata, name), wanted)
        if not fits:
            return False
    return True


def _found(metadata: dict[str, Any], name: str) -> Any:
    if name in metadata:
        return metadata[name]
    value: Any = metadata
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _field_fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return value is not _ABSENT and equal(value, wanted)
    return all(_operator_fits(value, name, operand) for name, operand in wanted.items())


def _operator_fits(value: Any, name: str, operand: Any) -> bool:
    if name == "exists":
        return (value is _ABSENT) is not operand
    if value is _ABSENT:
        return False
    if name in _COMPARISONS:
        kinds = plain(value)[0], plain(operand)[0]
        comparable = kinds in (("number", "number"), ("string", "string"))
        return comparable and _COMPARISONS[name](value, operand)
    if name == "eq":
        return equal(value, operand)
    if name == "ne":
        return not equal(value, operand)
    if name == "in":
        return any(equal(value, choice) for choice in operand)
    if name == "prefix":
        return isinstance(value, str) and value[: len(operand)] == operand
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    return isinstance(value, list) and any(equal(item, operand) for item in value)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
}
