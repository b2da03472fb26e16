"""Contract: which keys a query finds by their metadata, and orders by it."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import InvalidRequestError, Store
from kvstore.testing.contract_base import ContractBase, case, needs_queries, same_json

#: Keys whose field ``v`` has one value of each kind; ``missing`` has no such field.
VALUES: dict[str, dict[str, Any]] = {
    "null": {"v": None},
    "true": {"v": True},
    "false": {"v": False},
    "zero": {"v": 0},
    "one": {"v": 1},
    "one point five": {"v": 1.5},
    "two": {"v": 2.0},
    "minus": {"v": -3},
    "large": {"v": 2**63},
    "text 1": {"v": "1"},
    "text a": {"v": "a"},
    "text ab": {"v": "ab"},
    "text \u00e9": {"v": "\u00e9"},
    "text emoji": {"v": "\U0001f600"},
    "text \uff5e": {"v": "\uff5e"},
    "text empty": {"v": ""},
    "list empty": {"v": []},
    "list": {"v": [1, "a", None]},
    "list true": {"v": [True, 2]},
    "list of lists": {"v": [[1, "a"], {"x": 1}]},
    "object": {"v": {"x": 1, "y": [1]}},
    "object empty": {"v": {}},
    "deep": {"v": {"x": {"y": 5}}},
    "missing": {"w": 1},
}
_ALL = set(VALUES)
_NUMBERS = {"zero", "one", "one point five", "two", "minus", "large"}
_TEXTS = {key for key in VALUES if key.startswith("text")}

#: Filter to the keys that it finds.
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, _ALL),
    ({"v": None}, {"null"}),
    ({"v": True}, {"true"}),
    ({"v": False}, {"false"}),
    ({"v": 0}, {"zero"}),
    ({"v": 1}, {"one"}),
    ({"v": 1.0}, {"one"}),
    ({"v": 2}, {"two"}),
    ({"v": 2**63}, {"large"}),
    ({"v": 2**63 + 1}, set()),
    ({"v": "1"}, {"text 1"}),
    ({"v": ""}, {"text empty"}),
    ({"v": "\U0001f600"}, {"text emoji"}),
    ({"v": []}, {"list empty"}),
    ({"v": [1, "a", None]}, {"list"}),
    ({"v": [1.0, "a", None]}, {"list"}),
    ({"v": [True, "a", None]}, set()),
    ({"v": ["a", 1, None]}, set()),
    ({"v": [1, 2]}, set()),
    ({"v": {"eq": {}}}, {"object empty"}),
    ({"v": {"eq": {"y": [1], "x": 1}}}, {"object"}),
    ({"v": {"eq": {"x": True, "y": [1]}}}, set()),
    ({"v": {"eq": None}}, {"null"}),
    ({"v": {"ne": 1}}, _ALL - {"one", "missing"}),
    ({"v": {"ne": None}}, _ALL - {"null", "missing"}),
    ({"v": {"lt": 1}}, {"zero", "minus"}),
    ({"v": {"le": 1}}, {"zero", "minus", "one"}),
    ({"v": {"gt": 1}}, {"one point five", "two", "large"}),
    ({"v": {"ge": 1.5}}, {"one point five", "two", "large"}),
    ({"v": {"gt": 2**63}}, set()),
    ({"v": {"gt": 2**63 - 1}}, {"large"}),
    ({"v": {"lt": "ab"}}, {"text 1", "text a", "text empty"}),
    ({"v": {"ge": "ab"}}, {"text ab", "text \u00e9", "text emoji", "text \uff5e"}),
    ({"v": {"gt": "\uff5e"}}, {"text emoji"}),
    ({"v": {"ge": ""}}, _TEXTS),
    ({"v": {"ge": -1e308}}, _NUMBERS),
    ({"v": {"lt": True}}, set()),
    ({"v": {"ge": False}}, set()),
    ({"v": {"le": None}}, set()),
    ({"v": {"le": [1, "a", None]}}, set()),
    ({"v": {"in": [1, "1", None]}}, {"one", "text 1", "null"}),
    ({"v": {"in": []}}, set()),
    ({"v": {"in": [True]}}, {"true"}),
    ({"v": {"in": [[], {}]}}, {"list empty", "object empty"}),
    ({"v": {"prefix": "a"}}, {"text a", "text ab"}),
    ({"v": {"prefix": ""}}, _TEXTS),
    ({"v": {"prefix": "A"}}, set()),
    ({"v": {"prefix": "%"}}, set()),
    ({"v": {"contains": "b"}}, {"text ab"}),
    ({"v": {"contains": "a"}}, {"text a", "text ab", "list"}),
    ({"v": {"contains": ""}}, _TEXTS),
    ({"v": {"contains": 1}}, {"list"}),
    ({"v": {"contains": True}}, {"list true"}),
    ({"v": {"contains": None}}, {"list"}),
    ({"v": {"contains": {"x": 1}}}, {"list of lists"}),
    ({"v": {"contains": [1, "a"]}}, {"list of lists"}),
    ({"v": {"contains": "x"}}, set()),
    ({"v": {"exists": True}}, _ALL - {"missing"}),
    ({"v": {"exists": False}}, {"missing"}),
    ({"v": {"ge": 1, "lt": 2}}, {"one", "one point five"}),
    ({"v": {"ge": 1, "lt": "2"}}, set()),
    ({"v": {"exists": True}, "w": {"exists": True}}, set()),
    ({"w": 1}, {"missing"}),
    ({"v.x": 1}, {"object"}),
    ({"v.x.y": 5}, {"deep"}),
    ({"v.x.y": {"gt": 4}}, {"deep"}),
    ({"v.x": {"exists": True}}, {"object", "deep"}),
    ({"v.0": 1}, set()),
    ({"v.": {"exists": True}}, set()),
    ({"all": []}, _ALL),
    ({"any": []}, set()),
    ({"all": [{"v": {"ge": 1}}, {"v": {"le": 1.5}}]}, {"one", "one point five"}),
    ({"any": [{"v": 1}, {"v": "1"}, {"w": 1}]}, {"one", "text 1", "missing"}),
    ({"not": {"v": {"exists": True}}}, {"missing"}),
    ({"not": {"v": {"ne": 1}}}, {"one", "missing"}),
    ({"not": {}}, set()),
    ({"not": {"not": {"v": 1}}}, {"one"}),
    ({"v": {"gt": 0}, "any": [{"v": 1}, {"v": -3}]}, {"one"}),
    (
        {"any": [{"all": [{"v": {"gt": 1}}, {"not": {"v": 2}}]}, {"v": None}]},
        {"one point five", "large", "null"},
    ),
]
#: What is no filter.
NO_FILTERS: list[Any] = [
    {"v": {"like": "a"}},
    {"v": {"$gt": 1}},
    {"v": {}},
    {"v": {"exists": 1}},
    {"v": {"exists": None}},
    {"v": {"in": 1}},
    {"v": {"in": "abc"}},
    {"v": {"prefix": 1}},
    {"all": [1]},
    {"any": [{"v": {"nope": 1}}]},
    {"not": {"v": {"nope": 1}}},
    {"v": float("nan")},
    {"v": {"in": [float("inf")]}},
    {"v": b"bytes"},
    {1: 1},
]
#: All keys by ``order_by="v"``: by kind, then by value, equal ones and those without by key.
ORDERED = [
    "null",
    "false",
    "true",
    "minus",
    "zero",
    "one",
    "one again",
    "one point five",
    "large",
    "text empty",
    "text 1",
    "text a",
    "text a again",
    "text ab",
    "text \u00e9",
    "text \uff5e",
    "text emoji",
    "missing",
    "none either",
]
_KINDS = [["null"], ["false"], ["true"], ["minus"], ["zero"], ["one", "one again"]]
_KINDS += [["one point five"], ["large"], ["text empty"], ["text 1"], ["text a", "text a again"]]
_KINDS += [["text ab"], ["text \u00e9"], ["text \uff5e"], ["text emoji"]]
REVERSED = [key for equal in reversed(_KINDS) for key in equal] + ["missing", "none either"]


class FiltersContract(ContractBase):
    """Equality, filters, order and selection."""

    def test_where(self, store: Store) -> None:
        """Every operator finds what it means and nothing else, each kind of value apart."""
        needs_queries(store, "where")
        store.multiset_metadata(VALUES, VALUES.values())
        wrong = {}
        for where, expected in FILTERS:
            found = list(store.query_keys(where=where))
            if found != sorted(expected) or store.count(where=where) != len(expected):
                wrong[str(where)] = found, sorted(expected)
        assert wrong == {}

    def test_where_and_metadata(self, store: Store) -> None:
        """What is found comes with its metadata, of exactly the types that were stored."""
        needs_queries(store, "where")
        store.multiset_metadata(VALUES, VALUES.values())
        for where in ({"v": {"ge": -5}}, {"v": {"exists": True}}, {"v": {"contains": "a"}}):
            for key, metadata in store.query(where=where):
                assert same_json(metadata, VALUES[key])

    def test_what_is_no_filter(self, store: Store) -> None:
        """It is refused at once, and is never taken for one that finds nothing."""
        for where in NO_FILTERS:
            for ask in (store.query, store.query_keys, store.count):
                with case(where), pytest.raises(InvalidRequestError):
                    ask(where=where)

    def test_keyword_is_equality_of_json_values(self, store: Store) -> None:
        """``query(v=value)`` finds the value, and none that only Python takes for equal."""
        store.multiset_metadata(VALUES, VALUES.values())
        wrong = {}
        for key, metadata in VALUES.items():
            wanted = {} if key == "missing" else {"v": metadata["v"]}
            found = dict(store.query(**wanted))
            expected = {key: metadata} if wanted else VALUES
            if not same_json(found, expected) or store.count(**wanted) != len(expected):
                wrong[key] = sorted(found)
        assert wrong == {}

    def test_several_keywords_must_all_hold(self, store: Store) -> None:
        """And so must the filter beside them."""
        store.set_metadata("a", {"x": 1, "y": 1})
        store.set_metadata("b", {"x": 1, "y": 2})
        store.set_metadata("c", {"y": 2})
        assert list(store.query_keys(x=1)) == ["a", "b"]
        assert list(store.query_keys(x=1, y=2)) == ["b"]
        assert list(store.query_keys(x=1, y=3)) == []
        assert list(store.query_keys(z=None)) == []
        assert store.count(y=2) == 2
        needs_queries(store, "where", "prefix")
        assert list(store.query_keys(where={"x": {"ge": 1}}, y=2)) == ["b"]
        assert list(store.query_keys(prefix="a", x=1)) == ["a"]
        assert store.count(prefix="b", where={"y": 2}, x=1) == 1

    def test_fields_of_any_name_can_be_asked_for(self, store: Store) -> None:
        """Also those named as arguments, as parts of filters, and with dots."""
        names = ["self", "key", "data", "v.x", "", "a b&c=d", "\u00e9", "'\"--", "$limit", "None"]
        reserved = ["select", "where", "prefix", "glob", "order_by", "limit", "after"]
        for number, name in enumerate(names + reserved):
            store.set_metadata(f"{number:02}", {name: number, "v": {"x": -1}})
        for number, name in enumerate(names):
            match: dict[str, Any] = {name: number}
            assert list(store.query_keys(**match)) == [f"{number:02}"], name
        needs_queries(store, "where")
        for number, name in enumerate(names + reserved):
            assert list(store.query_keys(where={name: number})) == [f"{number:02}"], name
        path: dict[str, Any] = {"v.x": -1}
        assert list(store.query_keys(**path)) == []
        for word in ("all", "any", "not"):
            match = {word: 1}
            store.set_metadata("word", match)
            assert list(store.query_keys(where=match)) == ["word"]
            assert list(store.query_keys(**match)) == ["word"]

    def test_field_with_a_dot_hides_the_path(self, store: Store) -> None:
        """A name is first taken as it stands."""
        needs_queries(store, "where")
        store.set_metadata("both", {"a.b": 1, "a": {"b": 2}})
        store.set_metadata("path", {"a": {"b": 1}})
        assert list(store.query_keys(where={"a.b": 1})) == ["both", "path"]
        assert list(store.query_keys(where={"a.b": 2})) == []

    def test_queries_see_every_change(self, store: Store) -> None:
        """At once, after each way to change metadata."""
        store.set("key", b"", metadata={"a": 1})
        assert list(store.query_keys(a=1)) == ["key"]
        store.set_metadata("key", {"a": 2})
        assert (list(store.query_keys(a=1)), list(store.query_keys(a=2))) == ([], ["key"])
        store.update_metadata("key", {"b": 1})
        assert list(store.query_keys(a=2, b=1)) == ["key"]
        store.set("key", b"", metadata={"a": 3})
        assert (list(store.query_keys(b=1)), list(store.query_keys(a=3))) == ([], ["key"])
        store.set_data("key", b"data")
        assert list(store.query_keys(a=3)) == ["key"]
        store.delete("key")
        assert list(store.query_keys(a=3)) == []

    def test_select(self, store: Store) -> None:
        """Trims what is told, not what is asked for; fields that are not there are left out."""
        store.set_metadata("a", {"x": 1, "y": {"z": 2}})
        store.set_metadata("b", {"x": 1})
        assert list(store.query(["y"])) == [("a", {"y": {"z": 2}}), ("b", {})]
        assert list(store.query({"y", "x"}, x=1)) == [
            ("a", {"x": 1, "y": {"z": 2}}),
            ("b", {"x": 1}),
        ]
        assert list(store.query([], x=1)) == [("a", {}), ("b", {})]
        assert list(store.query(select=(name for name in ("x",)), y={"z": 2})) == [("a", {"x": 1})]
        assert list(store.query(["y.z", "a,b"])) == [("a", {}), ("b", {})]

    def test_order_by(self, store: Store) -> None:
        """By kind and value either way; keys without the field last, ties by key."""
        needs_queries(store, "order_by", "limit", "after")
        more: dict[str, dict[str, Any]] = {
            "one again": {"v": 1.0},
            "text a again": {"v": "a"},
            "none either": {},
        }
        for key in ORDERED:
            store.set_metadata(key, {**VALUES, **more}[key])
        for order_by, expected in (("v", ORDERED), ("-v", REVERSED)):
            assert list(store.query_keys(order_by=order_by)) == expected
            assert [key for key, _ in store.query(["w"], order_by=order_by)] == expected
            for limit in (1, 4, 7):
                found: list[str] = []
                after = None
                while page := list(
                    matches := store.query_keys(order_by=order_by, limit=limit, after=after)
                ):
                    found += page
                    after = matches.cursor
                assert found == expected, (order_by, limit)

    def test_order_by_with_a_filter(self, store: Store) -> None:
        """Order, filter and limit together; the field may lie in an object."""
        needs_queries(store, "order_by", "limit", "where", "prefix")
        for number, key in enumerate("fedcba"):
            store.set_metadata(key, {"o": {"n": number}, "odd": number % 2})
        assert list(store.query_keys(order_by="o.n", odd=0)) == ["f", "d", "b"]
        assert list(store.query_keys(order_by="-o.n", odd=0, limit=2)) == ["b", "d"]
        assert list(store.query_keys(order_by="-o.n", where={"o.n": {"lt": 4}}, limit=1)) == ["c"]
        assert list(store.query_keys(order_by="o.n", limit=0)) == []
        assert list(store.query_keys(order_by="nothing")) == ["a", "b", "c", "d", "e", "f"]

    def test_what_is_no_cursor(self, store: Store) -> None:
        """Cursors of ordered queries are opaque; others are refused, at the latest when read."""
        needs_queries(store, "order_by", "after")
        store.set_metadata("a", {"v": 1})
        for cursor in ("", "a", "[]", "[1]", "{}", '["a", 1, 2]', "\ud800"):
            with case(cursor), pytest.raises(InvalidRequestError):
                list(store.query_keys(order_by="v", after=cursor))
