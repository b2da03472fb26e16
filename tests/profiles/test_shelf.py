"""A server that the package has never heard of, by the profile in the documentation."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import kvstore
from kvstore import (
    AuthenticationError,
    DynamicURLStore,
    IntegrityError,
    InvalidRequestError,
    Store,
    UnsupportedOperationError,
)
from kvstore.profiles.profile import Auth
from kvstore.testing import StoreContract
from kvstore.testing.contract_metadata import CORNERS
from kvstore.transport.credentials import auth_of
from tests.profiles.shelf_server import Item, ShelfServer, shelf_server

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"


def described() -> dict[str, Any]:
    """The profile in the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)
    document: dict[str, Any] = json.loads(found[0])
    return document


@pytest.fixture(scope="module")
def shelf() -> Iterator[ShelfServer]:
    with shelf_server() as server:
        yield server


class TestShelf(StoreContract):
    histories = 5
    more_than_a_page = 101  # pages of this server have 7 names

    @pytest.fixture(autouse=True)
    def _shelf(self, shelf: ShelfServer) -> None:
        self.shelf = shelf

    def make_store(self) -> Store:
        self.shelf.items.clear()
        return kvstore.open(self.shelf.url, profile=described())

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        self.shelf.items.clear()
        return kvstore.open(self.shelf.url, profile=described(), metadata_schema=schema)

    # Thousands of requests, for what is answered on this side.
    test_where = None
    # One server has one content, and this test needs two.
    test_each_store_has_its_own_listeners = None

    @pytest.fixture(autouse=True)
    def _what_fits_a_header(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A header has 64 KiB at most."""
        for name in ("long text", "nearly all that is allowed"):
            monkeypatch.delitem(CORNERS, name)


def test_what_it_says_of_itself(shelf):
    with kvstore.open(shelf.url, profile=described()) as store:
        info = store.info()
    told = {name: info[name] for name in ("readonly", "atomic_set", "conditional", "digests")}
    assert told == {"readonly": False, "atomic_set": True, "conditional": True, "digests": True}
    assert (info["profile"], info["metadata"], info["authorizing"]) == ("shelf", "header", False)


def test_the_example_of_the_page(shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shelf.json").write_text(json.dumps(described()))
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)[0]
    with shelf_server("the password") as server:
        space: dict[str, Any] = {"kvstore": kvstore, "data": b"\x00raw"}
        exec(code.replace("http://host/shelf", server.url), space)
        store = space["store"]
        assert store.to_bytes("m31/raw") == b"\x00raw"
        assert list(store.query_keys(exposure=30)) == ["m31/raw"]
        assert server.items["m31/raw"].note == {"exposure": 30}
        store.disconnect()


def test_the_password_goes_where_the_profile_says_and_is_never_shown(caplog):
    caplog.set_level("DEBUG")
    with shelf_server("s3cret") as server:
        store = DynamicURLStore(server.url, profile=described())
        store.connect(("ann", "s3cret"))
        store.set("key", b"data")
        assert store.user_tag() == "ann"
        shown = f"{store!r} {store.info()} {vars(store)} {pickle.dumps(store)!r}"
        store.disconnect()
        store.connect(("ann", "wr0ng"))
        with pytest.raises(AuthenticationError, match="the door is closed") as caught:
            store.get("key")
        assert not pickle.loads(pickle.dumps(store)).is_connected()
        store.disconnect()
    for secret in ("s3cret", "wr0ng"):
        assert secret not in f"{shown} {caught.value} {caught.value!r} {caplog.text}"


@pytest.mark.parametrize("secret", ["", "a\nb", "ü", "a\r\nX-Other: 1"])
def test_what_no_header_can_carry_is_refused(secret):
    store = DynamicURLStore("http://host/shelf", profile=described())
    with pytest.raises(InvalidRequestError, match="A token is printable ASCII") as caught:
        store.connect((None, secret))
    assert not secret or secret not in caught.value.message


def test_a_bearer_token():
    seen = []

    class Listening(requests.Session):
        def request(self, method, url, **options):
            request = requests.Request(method, url, auth=self.auth).prepare()
            seen.append(request.headers["Authorization"])
            raise requests.ConnectionError("nobody")

    session = Listening()
    session.auth = auth_of("t0ken", Auth("Authorization", "Bearer "))
    assert "t0ken" not in repr(session.auth)
    document = {**described(), "auth": {"header": "Authorization", "prefix": "Bearer "}}
    with DynamicURLStore("http://host/shelf", profile=document) as store:
        store.connect((None, session))
        with pytest.raises(kvstore.TransportError):
            store.set("k", b"")
    assert seen == ["Bearer t0ken"]


def test_a_store_in_a_pickle_keeps_its_profile(shelf):
    shelf.items.clear()
    with kvstore.open(shelf.url, profile=described()) as store:
        store.set("key", b"data", metadata={"a": 1})
        twin = pickle.loads(pickle.dumps(store))
    with twin:
        assert twin.to_bytes("key") == b"data"
        assert twin.info()["profile"] == "shelf"


def test_what_is_damaged_there_is_an_error(shelf, monkeypatch):
    shelf.items.clear()
    shelf.items["key"] = Item(b"data", {}, "text/plain", 1)

    class Other:
        def __init__(self, data):
            pass

        def hexdigest(self):
            return "0" * 64

    monkeypatch.setattr("tests.profiles.shelf_server.sha256", Other)
    with kvstore.open(shelf.url, profile=described()) as store:
        with pytest.raises(IntegrityError):
            store.to_bytes("key")
    with kvstore.open(shelf.url, profile=described(), verify_digests=False) as store:
        assert store.to_bytes("key") == b"data"


def test_an_operation_that_is_left_out_is_refused(shelf):
    shelf.items.clear()
    document = described()
    for name in ("delete", "update_metadata", "list"):
        del document["operations"][name]
    with kvstore.open(shelf.url, profile=document) as store:
        store.set("key", b"data")
        for name, call in {
            "delete": lambda: store.delete("key"),
            "update_metadata": lambda: store.update_metadata("key", {}),
            "list": lambda: list(store.query_keys()),
            "reserve": lambda: store.reserve("k"),
            "get_permissions": lambda: store.get_permissions("key"),
        }.items():
            with pytest.raises(UnsupportedOperationError) as caught:
                call()
            wanted = f"A server of the profile 'shelf' has no operation {name!r}."
            assert caught.value.message == wanted
        assert store.to_bytes("key") == b"data"
