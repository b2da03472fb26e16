"""The contract as code: names and arguments, what must be implemented, what the base does itself.

What each operation means is tested for every store by the kit in ``kvstore.testing``.
"""

from __future__ import annotations

import ast
import enum
import inspect
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject
from kvstore.errors import (
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.events import StoreDeleteEvent, StoreEvent, StoreModificationEvent
from kvstore.matches import Matches
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.store import Store
from kvstore.transactions import Transactional
from kvstore.values import BytesOpener, Record, Value
from kvstore.writes import Change, Condition, Written, missing
from tests.cases import each

PACKAGE = Path(kvstore.__file__).parent
MIB = 1 << 20

#: Programs written for the API that this one follows pass these, by position and by name.
SEED: dict[str, list[tuple[str, Any]]] = {
    "connect": [("credentials", None)],
    "disconnect": [],
    "is_connected": [],
    "info": [],
    "get": [("key", ...)],
    "get_data": [("key", ...)],
    "get_data_range": [("key", ...), ("start", None), ("end", None)],
    "get_metadata": [("key", ...), ("select", None)],
    "exists": [("key", ...)],
    "query": [("select", None)],
    "query_keys": [],
    "glob": [("pattern", ...)],
    "to_file": [("key", ...), ("path", ...), ("buffer_size", MIB)],
    "to_bytes": [("key", ...), ("buffer_size", MIB)],
    "set": [("key", ...), ("value", ...), ("buffer_size", MIB)],
    "set_data": [("key", ...), ("data", ...), ("buffer_size", MIB)],
    "set_metadata": [("key", ...), ("metadata", ...)],
    "update_metadata": [("key", ...), ("metadata", ...)],
    "delete": [("key", ...)],
    "from_file": [("key", ...), ("path", ...), ("buffer_size", MIB)],
    "from_bytes": [("key", ...), ("data", ...), ("buffer_size", MIB)],
    "multiget": [("keys", ...)],
    "multiget_data": [("keys", ...)],
    "multiget_metadata": [("keys", ...), ("select", None)],
    "multiset": [("keys", ...), ("values", ...), ("buffer_size", MIB)],
    "multiset_data": [("keys", ...), ("datas", ...), ("buffer_size", MIB)],
    "multiset_metadata": [("keys", ...), ("metadatas", ...)],
    "multiupdate_metadata": [("keys", ...), ("metadatas", ...)],
    "transaction": [("notes", None)],
    "user_tag": [],
    "get_permissions": [("key", ...)],
    "set_permissions": [("key", ...), ("permissions", ...)],
    "update_permissions": [("key", ...), ("permissions", ...)],
}
ADDED = {"count", "mapping", "record", "find", "write"}
ADDED |= {"changes", "watch", "sequence", "versions", "restore"}

STORES = [
    kvstore.DynamicURLStore,
    kvstore.FileSystemStore,
    kvstore.MemoryStore,
    kvstore.SQLiteStore,
]


def public(cls: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_") and inspect.isfunction(member)
    }


# -- names and arguments ---------------------------------------------------------------------


def test_the_contract_has_these_methods_and_no_others() -> None:
    assert public(AuthorizingStore) == SEED.keys() | ADDED


@each("cls", [AuthorizingStore, *STORES], ids=lambda cls: cls.__name__)
@each("name", SEED)
def test_arguments_are_those_of_the_seed(cls: type, name: str) -> None:
    parameters = list(inspect.signature(getattr(cls, name)).parameters.values())[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    added = [p for p in parameters if p.kind is not p.POSITIONAL_OR_KEYWORD]

    shown = [(p.name, ... if p.default is p.empty else p.default) for p in positional]
    assert shown == SEED[name]
    for parameter in added:
        if parameter.kind is not parameter.VAR_KEYWORD:  # the fields of a query
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is not parameter.empty


@pytest.mark.parametrize("name", ["query", "query_keys", "count"])
def test_a_field_may_be_called_self(name: str) -> None:
    signature = inspect.signature(getattr(ReadOnlyStore, name))
    assert signature.bind("store", self=1).kwargs == {"self": 1}


def test_the_constructor_of_the_seed() -> None:
    parameters = list(inspect.signature(kvstore.DynamicURLStore).parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, ... if p.default is p.empty else p.default) for p in positional] == [
        ("base_url", ...),
        ("query_url", None),
        ("url_format", "{base}/{key}/{part}"),
        ("url_format_no_part", "{base}/{key}"),
        ("parts", {"data": "data", "metadata": "metadata", "permissions": "auth"}),
    ]


@pytest.mark.parametrize("cls", STORES, ids=lambda cls: cls.__name__)
def test_every_store_keeps_the_signatures_of_the_base(cls: type) -> None:
    for name in public(AuthorizingStore):
        mine, base = getattr(cls, name), getattr(AuthorizingStore, name)
        assert inspect.signature(mine) == inspect.signature(base), name


@pytest.mark.parametrize("cls", STORES, ids=lambda cls: cls.__name__)
def test_every_store_implements_primitives_alone(cls: type) -> None:
    # What the base does for all (checks, progress, events) is lost where a store replaces it.
    replaced = {name for name in public(AuthorizingStore) if name in vars(cls)}
    assert replaced <= {"connect", "info", "user_tag"}


@pytest.mark.parametrize("cls", STORES, ids=lambda cls: cls.__name__)
def test_constructors_have_the_same_style(cls: type) -> None:
    parameters = inspect.signature(cls).parameters
    for name in ("events", "metadata_schema"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None
    assert list(parameters)[-2:] == ["events", "metadata_schema"]


def boolean(argument: ast.arg, default: ast.expr | None) -> bool:
    said = ast.unparse(argument.annotation) if argument.annotation else ""
    is_flag = isinstance(default, ast.Constant) and isinstance(default.value, bool)
    return is_flag or said in ("bool", "bool | None")


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name.startswith("_") and node.name != "__init__":
                continue
            if isinstance(node, ast.ClassDef):
                yield from functions(node, f"{prefix}{node.name}.")
            elif not any(isinstance(wrapper, ast.Call) for wrapper in node.decorator_list):
                # A command, or a rule of a state machine, is called by name by its framework.
                yield f"{prefix}{node.name}", node  # type: ignore[misc]


MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
#: Made in one place each, from what a request says.
INTERNAL = {"Body.__init__"}


@each("module", MODULES, ids=str)
def test_at_most_one_boolean_and_by_name(module: Path) -> None:
    for name, function in functions(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        arguments = function.args
        plain = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
        by_position = [a.arg for a, d in zip(plain, defaults, strict=True) if boolean(a, d)]
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        by_name = [a.arg for a, d in named if boolean(a, d)]
        assert (name, by_position) == (name, [])
        assert len(by_name) <= 1 or name in INTERNAL, (name, by_name)


# -- what must be implemented ----------------------------------------------------------------


def get(self: Any, key: str) -> Value:
    try:
        record, data = self.entries[key]
    except KeyError:
        raise missing(key) from None
    return Value(record, BytesOpener(data, key))


def records(self: Any, prefix: str, after: str | None) -> Iterator[Record]:
    for key in sorted(self.entries):
        if key.startswith(prefix):
            yield self.entries[key][0]


def write(self: Any, key: str, change: Change) -> Written:
    old, before = self.entries.get(key, (None, b""))
    change.check(key, old)
    data = change.data.whole() if change.data is not None else before
    made = Record(key, change.new_metadata(old), len(data), mimetype=change.mimetype or "x/y")
    self.entries[key] = made, data
    return Written(None, old is not None, self.told)


def delete(self: Any, key: str, condition: Condition) -> JsonObject | None:
    condition.check(key, None, exists=key in self.entries)
    if key not in self.entries:
        raise missing(key)
    del self.entries[key]
    return None


PRIMITIVES: dict[type[ReadOnlyStore], dict[str, Callable[..., Any]]] = {
    ReadOnlyStore: {"_get": get, "_records": records},
    Store: {"_get": get, "_records": records, "_write": write, "_delete": delete},
    AuthorizingStore: {
        "_get": get,
        "_records": records,
        "_write": write,
        "_delete": delete,
        "user_tag": lambda self: "me",
    },
}


@pytest.mark.parametrize("base", PRIMITIVES, ids=lambda cls: cls.__name__)
def test_a_store_without_its_primitives_cannot_be_made(base: Any) -> None:
    primitives = PRIMITIVES[base]
    assert base.__abstractmethods__ == primitives.keys()
    with pytest.raises(TypeError, match="abstract"):
        base()
    for name in primitives:
        others = {n: function for n, function in primitives.items() if n != name}
        with pytest.raises(TypeError, match=name):
            type("Incomplete", (base,), others)()
    type("Complete", (base,), primitives)()


def test_each_level_adds_to_the_one_before() -> None:
    assert AuthorizingStore.__bases__ == (Store,)
    assert Store.__bases__ == (Transactional, ReadOnlyStore)
    assert not public(ReadOnlyStore) & {"set", "delete", "transaction", "get_permissions"}
    assert public(AuthorizingStore) - public(Store) == {
        *("user_tag", "get_permissions", "set_permissions", "update_permissions")
    }


# -- what the base does itself ---------------------------------------------------------------


class Minimal(AuthorizingStore):
    """The primitives and nothing else, so that every shortcut is the one of the base."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entries: dict[str, tuple[Record, bytes]] = {}
        #: What the store says of the metadata that a write leaves; None if it does not know.
        self.told: JsonObject | None = None
        self.gone: type[Exception] | None = None

    _records = records
    _write = write
    _delete = delete

    def _get(self, key: str) -> Value:
        if self.gone is not None:
            raise self.gone(f"{key} is gone.")
        return get(self, key)

    def user_tag(self) -> str:
        return "me"


@pytest.fixture
def store() -> Iterator[Minimal]:
    with Minimal() as store:
        yield store


def test_shortcuts_are_built_on_the_primitives(store: Minimal) -> None:
    store.set("a", b"abcdef", metadata={"n": 1, "m": [1]}, mimetype="text/plain")
    store.set("b", b"", metadata={"n": 2})
    assert store.exists("a")
    assert not store.exists("c")
    assert store.get_metadata("a") == {"n": 1, "m": [1]}
    assert store.get_metadata("a", ["n", "other"]) == {"n": 1}
    with store.get_data("a") as stream:
        assert stream.read() == b"abcdef"
    with store.get_data_range("a", 1, 3) as stream:
        assert stream.read() == b"bc"
    assert store.get("a").mimetype == "text/plain"
    assert list(store.query(["n"], prefix="a")) == [("a", {"n": 1})]
    assert list(store.query_keys(n=2)) == list(store.glob("b*")) == ["b"]
    assert list(store.query_keys(order_by="-n", limit=1)) == ["b"]
    assert (store.count(), store.count(n=2), store.count(glob="c*")) == (2, 1, 0)
    store.delete("a")
    assert list(store.query_keys(after="a")) == ["b"]


def test_what_the_store_gives_out_is_a_copy(store: Minimal) -> None:
    store.set("k", b"", metadata={"m": [1], "o": {}})
    for metadata in (
        store.get_metadata("k"),
        store.get_metadata("k", ["m"]),
        store.get("k").metadata,
        next(store.query())[1],
        next(store.query(["m"]))[1],
    ):
        metadata["m"].append(2)
        assert store.get_metadata("k") == {"m": [1], "o": {}}


def test_what_the_store_keeps_is_a_copy(store: Minimal) -> None:
    mine = {"m": [1]}
    store.set("k", b"", metadata=mine)
    mine["m"].append(2)
    assert store.get_metadata("k") == {"m": [1]}


def test_a_store_that_does_not_tell_permissions(store: Minimal) -> None:
    store.set_data("k", b"")
    with pytest.raises(UnsupportedOperationError, match="does not tell permissions") as caught:
        store.get_permissions("k")
    assert caught.value.key == "k"
    with pytest.raises(UnsupportedOperationError):
        _ = store.get("k").permissions


class _Key(str, enum.Enum):  # noqa: UP042 - its str() is the name, unlike that of StrEnum
    RUN = "runs/1"


def test_a_key_may_be_an_enum(store: Minimal) -> None:
    heard: list[Any] = []
    store.events.connect(StoreModificationEvent, heard.append)
    store.set(_Key.RUN, b"abc")
    store.set_metadata(_Key.RUN, {"a": 1})
    with store.get_data_range(_Key.RUN, 1) as stream:
        assert stream.read() == b"bc"
    assert [type(key) for key in store.entries] == [str]
    store.delete(_Key.RUN)
    assert [(type(event.key), event.key) for event in heard] == [(str, "runs/1")] * 3


CALLS: dict[str, Callable[[Minimal, Any], Any]] = {
    "get": lambda s, key: s.get(key),
    "get_data": lambda s, key: s.get_data(key),
    "get_data_range": lambda s, key: s.get_data_range(key),
    "get_metadata": lambda s, key: s.get_metadata(key),
    "exists": lambda s, key: s.exists(key),
    "to_file": lambda s, key: s.to_file(key, "/nowhere/file"),
    "to_bytes": lambda s, key: s.to_bytes(key),
    "multiget": lambda s, key: next(s.multiget([key])),
    "multiget_data": lambda s, key: next(s.multiget_data([key])),
    "multiget_metadata": lambda s, key: next(s.multiget_metadata([key])),
    "record": lambda s, key: s.record(key),
    "write": lambda s, key: s.write(key, Change()),
    "versions": lambda s, key: s.versions(key),
    "restore": lambda s, key: s.restore(key, "1"),
    "set": lambda s, key: s.set(key, b""),
    "set_data": lambda s, key: s.set_data(key, b""),
    "set_metadata": lambda s, key: s.set_metadata(key, {}),
    "update_metadata": lambda s, key: s.update_metadata(key, {}),
    "delete": lambda s, key: s.delete(key),
    "from_file": lambda s, key: s.from_file(key, __file__),
    "from_bytes": lambda s, key: s.from_bytes(key, b""),
    "multiset": lambda s, key: s.multiset([key], [b""]),
    "multiset_data": lambda s, key: s.multiset_data([key], [b""]),
    "multiset_metadata": lambda s, key: s.multiset_metadata([key], [{}]),
    "multiupdate_metadata": lambda s, key: s.multiupdate_metadata([key], [{}]),
    "get_permissions": lambda s, key: s.get_permissions(key),
    "set_permissions": lambda s, key: s.set_permissions(key, {"owned": {"me"}}),
    "update_permissions": lambda s, key: s.update_permissions(key, {}),
}
WITHOUT_KEY: dict[str, Callable[[Minimal], Any]] = {
    "query": lambda s: s.query(),
    "query_keys": lambda s: s.query_keys(),
    "count": lambda s: s.count(),
    "glob": lambda s: s.glob("*"),
    "find": lambda s: s.find(Query()),
    "sequence": lambda s: s.sequence(),
    "changes": lambda s: s.changes(),
    "watch": lambda s: s.watch(),
    "transaction": lambda s: s.transaction().__enter__(),
}


@each("name", CALLS)
def test_every_key_is_checked(store: Minimal, name: str) -> None:
    for key in ("", "a/../b", "a\0", "x" * 1025, None, 5, b"k"):
        with pytest.raises(InvalidKeyError):
            CALLS[name](store, key)
    assert store.entries == {}


@each("name", [*CALLS, *WITHOUT_KEY])
def test_every_use_needs_a_connection(name: str) -> None:
    def use(store: Minimal) -> None:
        WITHOUT_KEY[name](store) if name in WITHOUT_KEY else CALLS[name](store, "k")

    store = Minimal()
    with pytest.raises(NotConnectedError, match=r"^Minimal is not connected: call connect\(\)"):
        use(store)
    store.connect()
    store.disconnect()
    with pytest.raises(NotConnectedError):
        use(store)


def test_every_method_was_called_above() -> None:
    free = {"connect", "disconnect", "is_connected", "info", "user_tag", "mapping"}
    assert CALLS.keys() | WITHOUT_KEY.keys() | free == public(AuthorizingStore)


@pytest.mark.parametrize("name", ["multiget", "multiget_data", "multiget_metadata"])
@pytest.mark.parametrize("keys", ["abc", b"abc"])
def test_one_key_is_no_iterable_of_keys(store: Minimal, name: str, keys: Any) -> None:
    store.set_data("a", b"")
    with pytest.raises(InvalidRequestError, match=r"keys is an iterable of keys, not one: b?'abc'"):
        getattr(store, name)(keys)  # at once, not when the first is asked for


def test_pairs(store: Minimal) -> None:
    store.multiset(iter(["a", "b"]), iter([b"1", (b"2", {"n": 2})]))
    assert list(store.query()) == [("a", {}), ("b", {"n": 2})]
    for keys, values in ((["c"], []), ([], [b""]), (["a", "b"], [b"x"])):
        with pytest.raises(InvalidRequestError, match="As many keys as values are needed"):
            store.multiset(keys, values)
    with pytest.raises(InvalidRequestError, match="keys is an iterable of keys, not one: 'ab'"):
        store.multiset("ab", [b"1", b"2"])


def test_an_error_of_the_source_of_pairs_is_its_own(store: Minimal) -> None:
    def keys() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.multiset_data(keys(), iter([b"", b""]))


@pytest.mark.parametrize("value", [(b"x",), (b"x", None), (b"x", {}, 1), (b"x", [("a", 1)])])
def test_a_tuple_is_a_pair(store: Minimal, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"A tuple as value is \(data, metadata\), not "):
        store.set("k", value)
    store.set_data("k", (b"a", b"b"))  # as data it is pieces
    assert store.to_bytes("k") == b"ab"


def test_metadata_of_a_value_and_beside_it(store: Minimal) -> None:
    store.set("a", b"1", metadata={"n": 1}, mimetype="text/plain")
    store.set("b", store.get("a"))
    store.set("c", store.get("a"), metadata={"n": 3}, mimetype="image/png")
    store.set("d", (io.BytesIO(b"4"), {"n": 4}))
    store.set("e", (b"5", {"n": 0}), metadata={})
    shown = [(m.get("n"), store.get(key).mimetype) for key, m in store.query()]
    types = ["text/plain", "text/plain", "image/png", "x/y", "x/y"]
    assert shown == list(zip([1, 1, 3, 4, None], types, strict=True))


@pytest.mark.parametrize("mimetype", ["", "text/plain\r\nX: y", "é", 5])
def test_media_types_are_checked(store: Minimal, mimetype: Any) -> None:
    for write_it in (store.set, store.set_data, store.from_bytes):
        with pytest.raises(InvalidRequestError, match="A media type is"):
            write_it("k", b"", mimetype=mimetype)
    assert store.entries == {}


@pytest.mark.parametrize("size", [0, -5, None, "1", True])
def test_buffer_sizes_are_checked(store: Minimal, tmp_path: Path, size: Any) -> None:
    store.set_data("k", b"abc")
    for use in (
        lambda: store.set("k", b"x", size),
        lambda: store.to_bytes("k", size),
        lambda: store.to_file("k", tmp_path / "file", size),
        lambda: store.from_file("k", __file__, size),
    ):
        with pytest.raises(InvalidRequestError, match="A buffer size is"):
            use()
    assert store.to_bytes("k") == b"abc"
    assert list(tmp_path.iterdir()) == []


def test_a_value_is_closed_whatever_becomes_of_it(tmp_path: Path) -> None:
    closed: list[str] = []

    class Held(BytesOpener):
        def close(self) -> None:
            closed.append("closed")

    class Holding(Minimal):
        def _get(self, key: str) -> Value:
            return Value(Record(key, {}, 3), Held(b"abc"))

    def stop(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with Holding() as store:
        assert store.to_bytes("k") == b"abc"
        store.to_file("k", tmp_path / "file")
        assert closed == ["closed"] * 2
        for use in (
            lambda: store.to_bytes("k", progress=stop),
            lambda: store.to_file("k", tmp_path / "file", progress=stop),
            lambda: store.to_file("k", tmp_path / "none" / "file"),
        ):
            with pytest.raises((ZeroDivisionError, FileNotFoundError)):
                use()
        assert closed == ["closed"] * 5
        store.exists("k")
        assert closed == ["closed"] * 6


# -- events ----------------------------------------------------------------------------------


@pytest.fixture
def heard(store: Minimal) -> list[Any]:
    heard: list[Any] = []
    store.events.connect(StoreModificationEvent, heard.append)
    return heard


def test_metadata_in_events_where_the_store_does_not_tell(store: Minimal, heard: Any) -> None:
    store.set("k", b"", metadata={"a": 1})
    store.set_data("k", b"x")
    store.update_metadata("k", {"b": 2})
    assert [event.metadata for event in heard] == [{"a": 1}, {"a": 1}, {"a": 1, "b": 2}]


def test_metadata_in_events_where_the_store_tells(store: Minimal, heard: Any) -> None:
    store.told = {"told": [1]}
    store.set("k", b"", metadata={"a": 1})
    store.update_metadata("k", {"b": 2})
    assert [event.metadata for event in heard] == [{"told": [1]}] * 2
    heard[0].metadata["told"].append(2)
    assert store.told == heard[1].metadata == {"told": [1]}


@pytest.mark.parametrize("error", [KeyNotFoundError, TransportError])
def test_a_write_that_succeeded_does_not_fail_for_its_event(
    store: Minimal, heard: Any, error: type[Exception]
) -> None:
    store.set("k", b"", metadata={"a": 1})
    store.gone = error  # somebody else deletes the key, or the line is cut
    store.set_data("k", b"x")
    store.update_metadata("k", {"b": 2})
    store.set_metadata("k", {"c": 3})
    assert [event.metadata for event in heard[1:]] == [{}, {"b": 2}, {"c": 3}]
    assert store.entries["k"][0].metadata == {"c": 3}


def test_nobody_asks_where_nobody_listens(store: Minimal) -> None:
    store.gone = AssertionError
    store.set_data("k", b"")
    store.update_metadata("k", {"a": 1})
    store.delete("k")


def test_a_delete_tells_nothing_where_the_store_does_not(store: Minimal, heard: Any) -> None:
    store.set_data("k", b"")
    store.delete("k")
    assert isinstance(heard[1], StoreDeleteEvent)
    assert heard[1].metadata == {}


def test_without_transactions_events_come_at_once(store: Minimal) -> None:
    names: list[str] = []
    store.events.connect(StoreEvent, lambda event: names.append(type(event).__name__))
    assert store.info()["transactions"] is False
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set_metadata("k", {})
        raise ZeroDivisionError
    assert names == ["StoreTransactionStartEvent", "StoreSetEvent", "StoreTransactionEndEvent"]
    assert list(store.query_keys()) == ["k"]


def test_a_commit_that_fails_is_rolled_back() -> None:
    done: list[str] = []

    class Failing(Minimal):
        capabilities = {**Minimal.capabilities, "transactions": True}  # noqa: RUF012

        def _commit(self) -> None:
            raise ZeroDivisionError

        def _rollback(self) -> None:
            done.append("rollback")

    with Failing() as store:
        store.events.connect(StoreModificationEvent, lambda event: done.append(event.key))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.set_data("k", b"")
    assert done == ["rollback"]


# -- life cycle ------------------------------------------------------------------------------


def test_connections() -> None:
    calls: list[Any] = []

    class Telling(Minimal):
        def _connect(self, credentials: Any) -> None:
            calls.append(credentials)

        def _disconnect(self) -> None:
            calls.append("disconnect")

    store = Telling()
    store.disconnect()
    with store as same:
        assert same is store
        assert store.is_connected()
        store.connect("new")
        with store:  # connected as it is
            pass
        assert not store.is_connected()
    assert calls == [None, "new", "disconnect"]


def test_a_store_without_use_for_credentials_refuses_them() -> None:
    store = Minimal()
    with pytest.raises(InvalidRequestError, match="Minimal takes no credentials"):
        store.connect("ann")
    assert not store.is_connected()


def test_a_connect_that_fails_leaves_the_store_as_it_was() -> None:
    store = Minimal()
    store.connect()
    with pytest.raises(InvalidRequestError):
        store.connect("ann")
    assert store.is_connected()


def test_info_is_a_copy(store: Minimal) -> None:
    assert next(iter(store.info())) == "type"
    assert store.info()["type"] == "Minimal"
    store.info()["queries"].clear()
    assert store.info()["queries"] == Minimal.capabilities["queries"] != []


def test_a_metadata_schema() -> None:
    with pytest.raises(InvalidRequestError, match="no JSON Schema"):
        Minimal(metadata_schema={"type": "nosuch"})
    with Minimal(metadata_schema={"required": ["a"]}) as store:
        store.set("k", b"x", metadata={"a": 1})
        for use in (
            lambda: store.set("k", b"y"),
            lambda: store.set_metadata("k", {}),
            lambda: store.set_data("new", b"y"),
        ):
            with pytest.raises(InvalidMetadataError, match="'a' is a required property"):
                use()
        store.set_data("k", b"z")
        assert list(store.query_keys()) == ["k"]


def test_queries_are_checked_at_once(store: Minimal) -> None:
    bad: list[dict[str, Any]] = [
        {"where": {"f": {"like": 1}}},
        {"prefix": 1},
        {"glob": "*" * 1025},
    ]
    paged: list[dict[str, Any]] = [
        {"limit": -1},
        {"order_by": 1},
        {"after": 1},
        {"order_by": "f", "after": "no cursor"},
    ]
    for arguments in bad:
        for use in (store.query, store.query_keys, store.count):
            with pytest.raises(InvalidRequestError):
                use(**arguments)
    for arguments in paged:
        for find in (store.query, store.query_keys):
            with pytest.raises(InvalidRequestError):
                find(**arguments)
    with pytest.raises(InvalidRequestError):
        store.query("select")
    for pattern in (None, 5, b"*"):
        with pytest.raises(InvalidRequestError, match="A glob is a str, not "):
            store.glob(pattern)  # type: ignore[arg-type]


def test_queries_read_nothing_until_they_are_iterated() -> None:
    class Counting(Minimal):
        read = 0

        def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
            for record in records(self, prefix, after):
                self.read += 1
                yield record

    with Counting() as store:
        store.multiset_data(["a", "b", "c"], [b""] * 3)
        store.query(order_by="f", limit=1)
        found = store.query()
        assert store.read == 0
        assert isinstance(found, Matches)
        assert next(found) == ("a", {})
        assert store.read == 1
        found.close()
        assert list(found) == []
        assert store.read == 1


def test_a_prefix_reaches_the_store() -> None:
    asked: list[Any] = []

    class Asked(Minimal):
        def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
            asked.append((prefix, after))
            return iter(())

    with Asked() as store:
        list(store.query(prefix="a", after="ab"))
        list(store.glob("runs/*.fits"))
        list(store.query_keys(order_by="f", after='["k"]'))
        assert asked == [("a", "ab"), ("runs/", None), ("", None)]
        assert Query(glob="runs/*").key_prefix() == "runs/"
