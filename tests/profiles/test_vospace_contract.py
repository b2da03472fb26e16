"""A VOSpace service as a store: the contract, against the gateway of our own server."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import (
    AuthorizationError,
    ConflictError,
    InvalidKeyError,
    Store,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.gateways.vospace import VospaceGateway
from kvstore.profiles.loading import load_profile
from kvstore.server.running.run import serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.testing import StoreContract
from kvstore.testing.contract_base import case, content
from kvstore.testing.odd_keys import ODD_KEYS
from tests.server.access import lab_of


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[str, MemoryStore]]:
    """A server with the gateway, and what is behind it."""
    store = MemoryStore()
    with serve_background(store, gateways=[VospaceGateway()]) as url:
        yield f"{url}/vos", store


class TestContract(StoreContract):
    """What a tree of nodes can keep of the contract; what it cannot stands at the end."""

    @pytest.fixture(autouse=True)
    def _behind(self, behind: tuple[str, MemoryStore]) -> None:
        self.behind = behind

    def make_store(self) -> Store:
        url, store = self.behind
        for key in list(store.query_keys()):
            store.delete(key)
        return kvstore.open(f"vos+{url}")

    def make_store_with_schema(self, schema):
        url, store = self.behind
        for key in list(store.query_keys()):
            store.delete(key)
        return kvstore.open(f"vos+{url}", metadata_schema=schema)

    # `a` and `a/b` cannot both be keys, nor can `a/`; see below for those that can.
    test_any_history_agrees_with_a_dict = None
    test_glob = None
    test_keys_do_not_touch_each_other = None
    test_missing_key_exists_not = None
    test_odd_key_alone = None
    test_odd_keys_together = None
    test_odd_prefixes = None
    test_order_is_by_code_point = None
    test_pages = None
    test_prefix = None
    # Thousands of requests; what is asked is answered on this side, as for any other server.
    test_fields_of_any_name_can_be_asked_for = None
    test_keyword_is_equality_of_json_values = None
    test_order_by = None
    test_more_keys_than_a_page = None
    test_where = None
    # What can be created under a condition is; see below.
    test_condition_that_cannot_be_kept = None


@pytest.fixture
def pair(behind: tuple[str, MemoryStore]) -> Iterator[tuple[Store, MemoryStore]]:
    """The space, and the store behind it; both are empty."""
    url, store = behind
    for key in list(store.query_keys()):
        store.delete(key)
    with kvstore.open(f"vos+{url}") as space:
        yield space, store


#: Slashes at the ends and within, and what a name of a node is; see `names`.
NO_NODES = [key for key in ODD_KEYS.values() if "" in key.split("/")]


def test_odd_keys_are_keys_or_refused(pair):
    space, store = pair
    for name, key in ODD_KEYS.items():
        if name == "longest of slashes" or key.isalnum():
            continue  # five hundred containers; what is not odd here
        with case(name):
            if key in NO_NODES:
                with pytest.raises(InvalidKeyError):
                    space.set(key, b"data")
                continue
            space.set(key, b"data", metadata={"key": key})
            assert list(space.query()) == [(key, {"key": key})]
            assert store.to_bytes(key) == space.to_bytes(key) == b"data"
            space.delete(key)
            for left in list(store.query_keys()):
                store.delete(left)  # containers


def test_what_the_space_has_is_what_others_see(pair):
    space, store = pair
    metadata = {"title": "T", "plain": "text", "": [1, {"a": None}], "n": 1.5, "yes": True}
    space.set("lab/run1", b"abc", metadata=metadata, mimetype="text/plain")
    seen = store.get_metadata("lab/run1")
    assert {**seen, "vospace": None} == {**metadata, "vospace": None}
    assert store.record("lab/run1").mimetype == "text/plain"
    store.set("lab/run2", b"d", metadata=metadata)
    assert space.get_metadata("lab/run2") == metadata
    store.set_metadata("lab/run2", {"plain": "other", "title": ["no", "text"]})
    assert space.get_metadata("lab/run2") == {"plain": "other", "title": ["no", "text"]}
    space.update_metadata("lab/run2", {"plain": 2, "title": "text again"})
    assert store.get_metadata("lab/run2") == {"plain": 2, "title": "text again"}


def test_properties_of_other_clients_are_metadata(pair):
    space, store = pair
    own = {"properties": {"urn:x:y": " kept as it is\r\n", "http://host/z": ""}}
    space.set("k", b"", metadata={"vospace": own, "a": 1})
    assert space.get_metadata("k") == {"vospace": own, "a": 1}
    assert store.get_metadata("k")["vospace"]["properties"] == own["properties"]
    space.set_metadata("k", {"a": 1})
    assert space.get_metadata("k") == {"a": 1}


def test_creating_is_for_one(pair):
    space, store = pair
    makers = {
        "set": lambda key: space.set(key, b"1", metadata={"a": 1}, if_none_match="*"),
        "set_data": lambda key: space.set_data(key, b"1", if_none_match="*"),
        "set_metadata": lambda key: space.set_metadata(key, {"a": 1}, if_none_match="*"),
    }
    for name, make in makers.items():
        with case(name):
            make(f"{name}/k")
            before = content(space, f"{name}/k")
            with pytest.raises(ConflictError):
                make(f"{name}/k")
            assert content(space, f"{name}/k") == before
            with ThreadPoolExecutor(4) as threads:
                results = list(threads.map(lambda _, m=make: _won(m), range(4)))
            assert results.count(True) == 1
            store.delete("race")


def _won(make) -> bool:
    try:
        make("race")
    except ConflictError:
        return False
    return True


def test_other_conditions_are_refused(pair):
    space, _ = pair
    space.set("k", b"old", metadata={"a": 1})
    before = content(space, "k")
    for call in (
        lambda: space.set("k", b"", if_match="*"),
        lambda: space.set_metadata("k", {}, if_match="*"),
        lambda: space.update_metadata("k", {"b": 1}, if_match="*"),
        lambda: space.delete("k", if_match="*"),
    ):
        with pytest.raises(UnsupportedOperationError):
            call()
    assert content(space, "k") == before


def test_data_alone_leave_metadata_and_permissions(pair):
    space, store = pair
    space.set("k", b"old", metadata={"a": 1, "title": "T"})
    space.update_permissions("k", {"read": {"public", "team"}, "write": {"a b"}})
    permissions = space.get_permissions("k")
    assert permissions == store.get_permissions("k")
    assert permissions["read"] == {"public", "team"}
    assert permissions["write"] == {"a b"}
    space.set_data("k", b"new")
    assert space.get_metadata("k") == {"a": 1, "title": "T"}
    assert space.get_permissions("k") == permissions
    owned = {"owned": permissions["owned"]}
    space.set_permissions("k", owned)
    assert store.get_permissions("k") == owned
    for odd in ({"owned": {"other"}}, {**owned, "write": {"public"}}, {**owned, "look": {"a"}}):
        with pytest.raises(UnsupportedOperationError):
            space.set_permissions("k", odd)


def test_a_container_of_the_space_is_a_store(behind):
    url, store = behind
    document = {**load_profile("vospace").document, "vospace": {"root": "deep/lab"}}
    with kvstore.open(f"vos+{url}", profile=document) as space:
        space.set("a/b", b"1")
        assert store.to_bytes("deep/lab/a/b") == b"1"
        assert list(space.query_keys()) == ["a/b"]
        assert space.to_bytes("a/b") == b"1"


def test_large_data_go_by_and_come_in_pieces(pair, tmp_path):
    space, _ = pair
    data = random.Random(1).randbytes(3 << 20)
    (tmp_path / "in").write_bytes(data)
    space.from_file("k", tmp_path / "in")
    space.to_file("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    space.set("k", iter([data[:1000], data[1000:]]))  # of a size that nobody knows
    assert space.to_bytes("k") == data


def test_a_value_is_of_the_data_that_there_were(pair):
    space, _ = pair
    space.set("k", b"old")
    value = space.get("k")
    space.set("k", b"new")
    with pytest.raises(ConflictError):
        value.read()


def test_it_pickles_and_says_what_it_is(behind):
    url, _ = behind
    with kvstore.open(f"vos+{url}") as space:
        info = space.info()
        assert (info["profile"], info["conditional"], info["atomic_set"]) == ("vospace",) + (
            False,
        ) * 2
        space.probe()
        space.set("pickled", b"1")
        with pickle.loads(pickle.dumps(space)) as twin:
            assert twin.to_bytes("pickled") == b"1"


def test_a_token_is_sent(tmp_path):
    with lab_of(MemoryStore(), tmp_path, gateways=[VospaceGateway()]) as lab:
        with pytest.raises(AuthorizationError), kvstore.open(f"vos+{lab.url}/vos") as space:
            space.set("k", b"1")
        token = lab.token("ada")
        with kvstore.open(f"vos+{lab.url}/vos", token=token) as space:
            space.set("k", b"1")
            assert space.to_bytes("k") == b"1"
            assert space.get_permissions("k") == {"owned": {"ada"}}
        bob = lab.token("bob")
        with kvstore.open(f"vos+{lab.url}/vos", token=bob) as space:
            assert not space.exists("k")
            with pytest.raises(AuthorizationError):
                space.set("k", b"2")


def test_an_address_that_is_no_vospace(behind):
    url, _ = behind
    with (
        kvstore.open(f"vos+{url}/nowhere") as space,
        pytest.raises(TransportError, match="VOSpace"),
    ):
        space.exists("k")
