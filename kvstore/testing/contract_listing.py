"""Contract: listings are complete, in order, and can be read in pages while the store changes."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import InvalidRequestError, KeyNotFoundError, Query, Store
from kvstore.testing.contract_base import ContractBase, case, listing, needs_queries

#: In order of code points. By UTF-16, by bytes of other encodings, by locale or without regard to
#: case the order would be another.
ORDERED = (
    " ",
    "%",
    "/",
    "/a",
    "0",
    "10",
    "9",
    "A",
    "B",
    "_",
    "a",
    "a b",
    "a!",
    "a/b",
    "aB",
    "ab",
    "z",
    "\u00e9",
    "\u0410",
    "\u4e2d",
    "\uff5e",
    "\uffff",
    "\U00010000",
    "\U0001f600",
)
#: Pattern to those that it finds of the keys in the test.
GLOBS: dict[str, list[str]] = {
    "*": ["A.txt", "a", "a.txt", "a/b.txt", "a/b/c.txt", "a[1]", "ab", "a\nb"],
    "a": ["a"],
    "a*": ["a", "a.txt", "a/b.txt", "a/b/c.txt", "a[1]", "ab", "a\nb"],
    "*.txt": ["A.txt", "a.txt", "a/b.txt", "a/b/c.txt"],
    "a/*.txt": ["a/b.txt", "a/b/c.txt"],
    "?.txt": ["A.txt", "a.txt"],
    "a?": ["ab"],
    "a?b": ["a\nb"],
    "[ab].txt": ["a.txt"],
    "[!a].txt": ["A.txt"],
    "a[[]1]": ["a[1]"],
    "a[1]": [],
    "A*": ["A.txt"],
    "": [],
    "**": ["A.txt", "a", "a.txt", "a/b.txt", "a/b/c.txt", "a[1]", "ab", "a\nb"],
}
#: What cannot be asked for.
NO_ARGUMENTS: list[dict[str, Any]] = [
    {"limit": -1},
    {"limit": 1.0},
    {"limit": "1"},
    {"limit": True},
    {"prefix": None},
    {"prefix": b"a"},
    {"glob": 7},
    {"after": 7},
    {"order_by": ["a"]},
    {"glob": "*" * 2000},
    {"where": []},
    {"where": "a"},
]


class ListingContract(ContractBase):
    """Order, pages, prefixes and globs."""

    def test_order_is_by_code_point(self, store: Store) -> None:
        """For keys, records, mapping and globs alike, in whatever order they were made."""
        for key in (*ORDERED[::2], *reversed(ORDERED[1::2])):
            store.set(key, b"")
        assert listing(store) == list(ORDERED)
        assert [key for key, _ in store.query()] == list(ORDERED)
        assert list(store.mapping()) == list(ORDERED)
        assert list(store.glob("*")) == list(ORDERED)

    #: Keys that are more than any page has; fewer, but over 100, will do where pages are short.
    more_than_a_page = 1101

    def test_more_keys_than_a_page(self, store: Store) -> None:
        """Nothing is cut off at 1,000, whichever way the keys are asked for."""
        many = self.more_than_a_page
        keys = [f"{number % 7}/{number:04}" for number in range(many)]
        store.multiset_metadata(keys, ({"n": number} for number in range(many)))
        keys.sort()
        assert [key for key, _ in store.query()] == keys
        assert store.count() == many
        if {"where", "prefix", "limit", "after", "order_by"} <= set(store.info()["queries"]):
            assert len(list(store.query_keys(where={"n": {"ge": 50}}))) == many - 50
            assert list(store.query_keys(limit=many - 51)) == keys[:-51]
            assert list(store.query_keys(limit=5000, after=keys[49])) == keys[50:]
            by_n = sorted(keys, key=lambda key: key[2:])
            assert list(store.query_keys(order_by="-n", limit=many - 91)) == by_n[:90:-1]
        # Some of them are deleted meanwhile, so that a page which begins at a number goes wrong.
        told = []
        for number, key in enumerate(store.query_keys()):
            told.append(key)
            if number % 50 == 0:
                store.delete(key)
        assert told == keys
        assert listing(store) == [key for number, key in enumerate(keys) if number % 50]

    def test_pages(self, store: Store) -> None:
        """The cursor of one page begins the next; together they are the whole."""
        needs_queries(store, "limit", "after")
        store.multiset_metadata(ORDERED, ({"key": key} for key in ORDERED))
        for limit in (1, 2, 3, 7, 24, 25, 1000):
            with case(limit):
                self.turn_pages(store, limit)

    def turn_pages(self, store: Store, limit: int) -> None:
        """Read all of *store*, which holds the keys in ORDERED, so many at a time."""
        pages, after = [], None
        while True:
            page = store.query(limit=limit, after=after)
            pairs = list(page)
            if not pairs:
                break
            assert len(pairs) <= limit
            assert all(metadata == {"key": key} for key, metadata in pairs)
            pages.append([key for key, _ in pairs])
            after = page.cursor
        assert [key for page_ in pages for key in page_] == list(ORDERED)
        assert [len(page_) for page_ in pages[:-1]] == [limit] * (len(pages) - 1)

    def test_cursor(self, store: Store) -> None:
        """None before the first; then where the iteration stands; in order of keys it is a key."""
        needs_queries(store, "after")
        for key in "abcd":
            store.set(key, b"")
        found = store.query_keys()
        assert found.cursor is None
        assert next(found) == "a"
        assert next(found) == "b"
        cursor = found.cursor
        assert next(found) == "c"
        assert list(store.query_keys(after=cursor)) == ["c", "d"]
        assert list(store.query_keys(after="b")) == ["c", "d"]
        assert list(store.query_keys(after="bb")) == ["c", "d"]
        assert list(store.query_keys(after="")) == ["a", "b", "c", "d"]
        assert list(store.query_keys(after="d")) == []

    def test_cursor_of_a_deleted_key(self, store: Store) -> None:
        """A page may begin behind a key that is gone."""
        needs_queries(store, "limit", "after")
        for key in "abcd":
            store.set(key, b"")
        page = store.query_keys(limit=2)
        assert list(page) == ["a", "b"]
        store.delete("b")
        assert list(store.query_keys(after=page.cursor)) == ["c", "d"]

    def test_limit(self, store: Store) -> None:
        """At most so many, the first ones."""
        needs_queries(store, "limit")
        for key in "cab":
            store.set(key, b"")
        for limit in (0, 1, 3, 4):
            with case(limit):
                assert list(store.query_keys(limit=limit)) == ["a", "b", "c"][:limit]
                assert len(list(store.query(limit=limit))) == min(limit, 3)

    def test_prefix(self, store: Store) -> None:
        """Keys that begin so, taken literally; combined with ``after`` and ``limit``."""
        needs_queries(store, "prefix", "limit", "after")
        keys = sorted(
            ["a", "a/b", "a/bc", "a/c", "ab", "A/b", "%41", "\u00e9", "e\u0301", "b", "a*b", "  x"]
        )
        for key in keys:
            store.set(key, b"")
        for prefix in ("", "a", "a/", "a/b", "A", "%", "\u00e9", "zz", "a*", " "):
            expected = [key for key in keys if key[: len(prefix)] == prefix]
            with case(prefix):
                assert list(store.query_keys(prefix=prefix)) == expected
                assert [key for key, _ in store.query(prefix=prefix)] == expected
                assert store.count(prefix=prefix) == len(expected)
                assert list(store.query_keys(prefix=prefix, limit=2)) == expected[:2]
                if expected:
                    assert list(store.query_keys(prefix=prefix, after=expected[0])) == expected[1:]

    def test_glob(self, store: Store) -> None:
        """Shell wildcards; ``*`` crosses slashes, case counts, the whole key matches."""
        needs_queries(store, "glob")
        for key in ("a", "ab", "a.txt", "A.txt", "a/b.txt", "a/b/c.txt", "a\nb", "a[1]"):
            store.set(key, b"")
        for pattern, expected in GLOBS.items():
            with case(pattern):
                assert list(store.glob(pattern)) == sorted(expected)
                assert list(store.query_keys(glob=pattern)) == sorted(expected)
                assert [key for key, _ in store.query(glob=pattern, prefix="a")] == sorted(
                    key for key in expected if key[0] == "a"
                )
                assert store.count(glob=pattern) == len(expected)

    def test_deleting_while_iterating(self, store: Store) -> None:
        """Everything is deleted, nothing is told twice."""
        for number in range(30):
            store.set(f"{number:02}", b"")
        told = []
        for key in store.query_keys():
            told.append(key)
            store.delete(key)
        assert told == [f"{number:02}" for number in range(30)]
        assert listing(store) == []

    def test_changing_while_iterating(self, store: Store) -> None:
        """Keys that stay are told once and in order, whatever comes, goes and changes."""
        for number in range(0, 40, 2):
            store.set(f"{number:02}", b"", metadata={"n": number})
        told: list[str] = []
        for key, metadata in store.query():
            told.append(key)
            assert metadata["n"] == int(key)
            store.set(f"{int(key) + 1:02}", b"", metadata={"n": int(key) + 1})
            if store.exists(key):
                store.update_metadata(key, {"seen": True})
            if store.exists("20"):
                store.delete("20")
        assert told == sorted(set(told))
        stayed = [f"{number:02}" for number in range(0, 40, 2) if number != 20]
        assert [key for key in told if int(key) % 2 == 0 and key != "20"] == stayed

    def test_iteration_given_up(self, store: Store) -> None:
        """The rest of a listing may be left; the store works on."""
        for key in "abc":
            store.set(key, b"")
        found = store.query_keys()
        assert next(found) == "a"
        found.close()
        found.close()
        assert listing(store) == ["a", "b", "c"]

    def test_two_listings_at_once(self, store: Store) -> None:
        """They do not disturb each other, nor reads between."""
        for key in "abc":
            store.set(key, key.encode())
        pairs = [
            (one, two, store.to_bytes(two)) for one in store.query_keys() for two in store.glob("*")
        ]
        assert pairs == [(one, two, two.encode()) for one in "abc" for two in "abc"]

    def test_arguments_without_meaning(self, store: Store) -> None:
        """They are refused at once, not when the result is iterated."""
        for arguments in NO_ARGUMENTS:
            for ask in (store.query, store.query_keys):
                with case(arguments), pytest.raises(InvalidRequestError):
                    ask(**arguments)

    def test_find_tells_all_facts(self, store: Store) -> None:
        """The records that a query finds, as copies; each is what ``record`` tells."""
        store.set("a", b"12345", metadata={"list": [1]}, mimetype="text/plain")
        store.set("b", b"", metadata={"list": []})
        found = store.find(Query(prefix="a"))
        [record] = found
        assert found.cursor == "a"
        assert (record.key, record.metadata) == ("a", {"list": [1]})
        assert record.revision == store.record("a").revision
        assert store.record("a").size == 5
        assert store.record("a").mimetype == "text/plain"
        store.record("a").metadata["list"].append(2)
        record.metadata["list"].append(3)
        assert store.get_metadata("a") == {"list": [1]}
        with pytest.raises(KeyNotFoundError):
            store.record("c")
        with pytest.raises(InvalidRequestError):
            store.find(Query(where={"a": {"no such operator": 1}}))
