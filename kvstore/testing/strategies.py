"""Hypothesis strategies for what goes into a store, odd cases first."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_ODD = list("aAbB/.% +#?&;~*[]{}\"'\\:\n\t\u00e9\u0301\u0130\uff0e\U0001f600")
_PATTERN = bytes(range(32, 127)) + b"\x00\xff\r\n"
_FIELDS = ("a", "b", "c.d", "", "$e", "\u00e9")


def keys() -> st.SearchStrategy[str]:
    """Legal keys, mostly short, of characters that are hard to quote."""
    characters = st.sampled_from(_ODD) | st.characters(
        codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]
    )
    return st.text(characters, min_size=1, max_size=20).filter(_has_no_dot_segment)


def metadata(*, fields: tuple[str, ...] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Metadata: JSON objects with corner values; of these *fields* only, if they are given."""
    names = _text() if fields is None else st.sampled_from(fields)
    return st.dictionaries(names, st.recursive(_atoms(), _containers, max_leaves=8), max_size=5)


def data() -> st.SearchStrategy[bytes]:
    """Data: short, and around the size of a page.

    Not larger, as Hypothesis writes a warning for each value whose text is long.
    """
    edges = st.sampled_from([0, 1, 4095, 4096, 4097])
    return st.binary(max_size=300) | edges.map(pattern)


def pattern(size: int) -> bytes:
    """Return so many bytes, none like its neighbours; a function, for it is shown by its call."""
    return (_PATTERN * (size // len(_PATTERN) + 1))[:size]


def filters(fields: tuple[str, ...] = _FIELDS) -> st.SearchStrategy[dict[str, Any]]:
    """Documents for ``where=`` that are well-formed."""
    name = st.sampled_from(fields)
    value = _atoms() | st.lists(_small(), max_size=3)
    operation = st.one_of(
        st.tuples(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "contains"]), value),
        st.tuples(st.just("in"), st.lists(value, max_size=3)),
        st.tuples(st.just("prefix"), st.text("ab", max_size=2)),
        st.tuples(st.just("exists"), st.booleans()),
    )
    operations = st.lists(operation, min_size=1, max_size=2).map(dict)
    clause = st.dictionaries(name, operations | value, min_size=1, max_size=2)
    return st.recursive(clause, _combinations, max_leaves=4)


def _combinations(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(parts, max_size=3)
    return (
        lists.map(lambda some: {"all": some})
        | lists.map(lambda some: {"any": some})
        | parts.map(lambda part: {"not": part})
    )


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3) | st.dictionaries(_text(), values, max_size=3)


def _atoms() -> st.SearchStrategy[Any]:
    return (
        _small() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    )


def _small() -> st.SearchStrategy[Any]:
    # Few values that meet each other often, the pairs that weak equality takes for the same first.
    return st.sampled_from([None, False, True, 0, 1, 1.0, -1, 2.5, "", "a", "ab", "1"]) | _text()


def _text() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=8)


def _has_no_dot_segment(key: str) -> bool:
    return not {".", ".."}.intersection(key.split("/"))
