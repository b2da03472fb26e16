"""Contract: metadata is JSON, comes back exactly, and is refused where it is no JSON."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import InvalidMetadataError, InvalidRequestError, Store, TooLargeError
from kvstore.testing.contract_base import ContractBase, case, content, listing, same_json


def _nested(levels: int) -> dict[str, Any]:
    """Return metadata of so many levels, itself counted."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return {"a": value}


#: Metadata that is hard to keep exactly.
CORNERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "empty name": {"": 1},
    "constants": {"null": None, "true": True, "false": False, "zero": 0, "one": 1, "minus": -1},
    "empty values": {"text": "", "list": [], "object": {}, "deeper": [[], {}, [{}]]},
    "large integers": {"a": 2**63 - 1, "b": 2**63, "c": -(2**63) - 1, "d": 10**30},
    "integers beyond floats": {"a": 2**53 + 1, "b": -(2**53) - 1},
    "floats": {"a": 0.1, "b": 1e300, "c": 5e-324, "d": 1.7976931348623157e308, "e": -2.5},
    "number like text": {"a": "1", "b": "1.0", "c": "true", "d": "null", "e": "NaN"},
    "names like ours": {
        "key": 1,
        "data": 2,
        "metadata": 3,
        "select": 4,
        "self": 5,
        "size": 6,
        "revision": 7,
        "created": 8,
        "owned": 9,
        "where": 10,
        "limit": 11,
        "permissions": 12,
        "digest": 13,
    },
    "names of filters": {"all": [1], "any": [2], "not": {"a": 1}, "eq": 1, "$where": 2, "$": 3},
    "names with syntax": {"a.b": 1, "a b": 2, "a/b": 3, "'\"": 4, "a;--": 5, "[0]": 6, "\\": 7},
    "names alike": {"a": 1, "A": 2, "a ": 3, " a": 4, "\u00e9": 5, "e\u0301": 6},
    "unicode": {"\U0001f600": "\U0001f468\u200d\U0001f469", "\uffff": "\u2028\u2029\ufeff"},
    "controls": {"a\n\t\r\x01": "line\r\nline\n\x00\x7f\x85\x1b"},
    "prototypes": {"__proto__": {"a": 1}, "constructor": 2, "__class__": 3},
    "order of names": {"z": 1, "a": 2, "m": {"z": 1, "a": 2}},
    "60 levels": _nested(60),
    "64 levels": _nested(64),
    "many names": {f"name {number}": number for number in range(2000)},
    "long text": {"a": "x" * 100_000},
    "nearly all that is allowed": {"a": "x" * 1_000_000},
}
#: What is no metadata.
NO_METADATA: dict[str, Any] = {
    "NaN": {"a": float("nan")},
    "infinity": {"a": [1, {"b": float("inf")}]},
    "minus infinity": {"a": float("-inf")},
    "int as name": {1: "a"},
    "None as name": {None: "a"},
    "name within": {"a": {"b": [{2: 3}]}},
    "bytes": {"a": b"bytes"},
    "set": {"a": {1, 2}},
    "object": {"a": object()},
    "complex": {"a": 1j},
    "lone surrogate": {"a": "\ud800"},
    "lone surrogate in a name": {"\udfff": 1},
    "65 levels": _nested(65),
    "300 levels": _nested(300),
    "list": [1],
    "None": None,
    "str": "{}",
    "pairs": [("a", 1)],
}
#: Over 1 MiB of JSON text, plainly and only when it is written out.
TOO_LARGE: dict[str, dict[str, Any]] = {
    "text": {"a": "x" * (1 << 20)},
    "name": {"x" * (1 << 20): 1},
    "many": {str(number): "x" * 100 for number in range(11_000)},
    "four bytes a character": {"a": "\U0001f600" * 300_000},
    "six bytes a character": {"a": "\x01" * 200_000},
    "long floats": {"a": [1.2345678901234567e-300] * 50_000},
}


class MetadataContract(ContractBase):
    """Metadata."""

    def test_corner_values_come_back(self, store: Store) -> None:
        """Exactly, and from every way in to every way out."""
        for name, metadata in CORNERS.items():
            with case(name):
                store.set("set", b"data", metadata=metadata)
                store.set_metadata("set_metadata", metadata)
                store.set("update_metadata", b"data")
                store.update_metadata("update_metadata", metadata)
                for key in ("set", "set_metadata", "update_metadata"):
                    assert same_json(store.get_metadata(key), metadata)
                value = store.get("set")
                value.close()
                assert same_json(value.metadata, metadata)
                found = dict(store.query())
                assert len(found) == 3
                assert all(same_json(document, metadata) for document in found.values())

    def test_invalid_metadata_is_refused(self, store: Store) -> None:
        """It is an InvalidMetadataError, and all is as it was."""
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for name, wrong in NO_METADATA.items():
            with case(name):
                for write in (store.set_metadata, store.update_metadata):
                    with pytest.raises(InvalidMetadataError):
                        write("key", wrong)
                if wrong is not None:
                    with pytest.raises(InvalidMetadataError):
                        store.set("key", b"new", metadata=wrong)
                with pytest.raises(InvalidMetadataError):
                    store.set_metadata("new", wrong)
                assert content(store, "key") == before
                assert listing(store) == ["key"]

    def test_metadata_that_contains_itself(self, store: Store) -> None:
        """It is refused, not followed."""
        metadata: dict[str, Any] = {"a": []}
        metadata["a"].append(metadata)
        with pytest.raises(InvalidMetadataError):
            store.set_metadata("key", metadata)
        assert listing(store) == []

    def test_error_points_at_the_value(self, store: Store) -> None:
        """``pointer`` is a JSON pointer (RFC 6901)."""
        with pytest.raises(InvalidMetadataError) as caught:
            store.set_metadata("key", {"a": 1, "b/c": [0, {"~": float("nan")}]})
        assert caught.value.pointer == "/b~1c/1/~0"

    def test_more_than_one_mebibyte_is_refused(self, store: Store) -> None:
        """Counted in bytes of JSON text."""
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for name, metadata in TOO_LARGE.items():
            with case(name):
                with pytest.raises(TooLargeError):
                    store.set_metadata("key", metadata)
                with pytest.raises(TooLargeError):
                    store.set("new", b"data", metadata=metadata)
                assert content(store, "key") == before
                assert listing(store) == ["key"]

    def test_tuples_become_lists(self, store: Store) -> None:
        """As JSON has it."""
        store.set_metadata("key", {"a": (1, (2, "b"))})
        assert store.get_metadata("key") == {"a": [1, [2, "b"]]}

    def test_select(self, store: Store) -> None:
        """Only the fields named, only those that are there; any iterable of names will do."""
        store.set_metadata("key", {"a": 1, "b": {"c": 2}, "": 3})
        assert store.get_metadata("key", select=["b", "missing"]) == {"b": {"c": 2}}
        assert store.get_metadata("key", {"a", ""}) == {"a": 1, "": 3}
        assert store.get_metadata("key", (name for name in ("a",))) == {"a": 1}
        assert store.get_metadata("key", []) == {}
        assert store.get_metadata("key", None) == {"a": 1, "b": {"c": 2}, "": 3}
        assert store.get_metadata("key", ["b.c"]) == {}

    def test_select_that_is_no_names(self, store: Store) -> None:
        """One ``str`` is refused, as its letters would be taken for names."""
        store.set_metadata("key", {"a": 1})
        selects: list[Any] = ["a", b"a", [1], [None]]
        for select in selects:
            with case(select):
                with pytest.raises(InvalidRequestError):
                    store.get_metadata("key", select)
                with pytest.raises(InvalidRequestError):
                    store.query(select)
