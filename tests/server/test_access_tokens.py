from __future__ import annotations

import hashlib
import hmac
import json
import logging
import stat
import threading
import zlib

import pytest

from kvstore.errors import (
    AuthenticationError,
    ConflictError,
    DamagedError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    UnavailableError,
)
from kvstore.opening import open_store
from kvstore.server import Settings, serve_background
from kvstore.server.access import token_text
from kvstore.server.access.admission import access_of
from kvstore.server.access.failures import Failures
from kvstore.server.access.tokens import Tokens
from kvstore.server.running.run import app_of, running
from kvstore.server.running.settings import AccessRules
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.transport.sender import BearerAuth
from tests.server.access import Lab, authenticator, lab_of
from tests.server.sockets import Wire, ask


@pytest.fixture
def tokens(tmp_path):
    return Tokens(tmp_path / "tokens.json")


# -- how they are spelled and kept -----------------------------------------------------------


def test_a_token_is_told_from_other_text_by_its_prefix_and_its_checksum():
    text = token_text.new_text("0123456789ab")
    assert token_text.id_in(text) == "0123456789ab"
    prefix, name, rest = text.split("_")
    assert (prefix, name, len(rest)) == ("kvs", "0123456789ab", 49)
    number = 0
    for letter in rest[-6:]:
        number = number * 62 + token_text._LETTERS.index(letter)
    assert number == zlib.crc32(text[:-6].encode())
    for other in (
        text[:-1],
        text + "0",
        text.replace("kvs", "xvs"),
        "",
        "kvs_",
        text[:-7] + "!" * 7,
    ):
        assert token_text.id_in(other) is None
    changed = text[:-7] + ("a" if text[-7] != "a" else "b") + text[-6:]
    assert token_text.id_in(changed) is None
    assert token_text.new_text("0123456789ab") != text


def test_what_is_kept_is_a_salted_hash_that_only_its_owner_may_read(tokens):
    token, text = tokens.create("ann", tags=["staff"], expires=tokens.clock() + 10)
    (record,) = json.loads(tokens.path.read_bytes())["tokens"]
    assert record["digest"] == hashlib.sha256(f"{record['salt']}{text}".encode()).hexdigest()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert text.rpartition("_")[2] not in tokens.path.read_text() + repr(token)
    assert tokens.load() == {token.id: token}
    assert token.scopes == {"read", "write"}
    assert (token.name, token.user, token.tags) == ("ann", "ann", {"staff"})


def test_it_is_digests_that_are_compared(tokens, monkeypatch):
    token, text = tokens.create("ann")
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    wrong = token_text.new_text(token.id)
    assert [token.is_of(text), token.is_of(wrong)] == [True, False]
    assert [len(one) == len(other) == 64 for one, other in compared] == [True, True]
    assert not {text, wrong} & {each for pair in compared for each in pair}


def test_names_are_given_once_and_again_after_they_were_revoked(tokens):
    tokens.create("ann")
    with pytest.raises(ConflictError, match="'ann'"):
        tokens.create("ann", user="bob")
    tokens.revoke("ann")
    with pytest.raises(KeyNotFoundError, match="'ann'"):
        tokens.revoke("ann")
    tokens.create("ann")
    assert [token.name for token in tokens.load().values()] == ["ann"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"user": "public"}, InvalidRequestError),
        ({"user": "ann "}, InvalidRequestError),
        ({"tags": ["staff", "public "]}, InvalidRequestError),
        ({"tags": ["a\u202eb"]}, InvalidRequestError),
        ({"user": ""}, InvalidPermissionsError),
        ({"tags": ["a", "\ud800"]}, InvalidPermissionsError),
        ({"tags": "staff"}, InvalidRequestError),
        ({"scopes": ["all"]}, InvalidRequestError),
        ({"scopes": []}, InvalidRequestError),
        ({"expires": 1.0}, InvalidRequestError),
        ({"expires": float("nan")}, InvalidRequestError),
        ({"name": "a\nb"}, InvalidRequestError),
        ({"name": "a" * 101}, InvalidRequestError),
    ],
)
def test_what_can_be_no_token_is_refused(tokens, options, error):
    with pytest.raises(error):
        tokens.create(**{"name": "ann", **options})
    assert not tokens.exists()


def test_many_who_change_the_file_lose_nothing(tokens):
    def create(number):
        for each in range(4):
            Tokens(tokens.path).create(f"{number}-{each}")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({token.name for token in tokens.load().values()}) == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda document: b"",
        lambda document: b"{",
        lambda document: json.dumps({**document, "format": 2}).encode(),
        lambda document: json.dumps({"format": 1, "tokens": [{}]}).encode(),
        lambda document: json.dumps({"format": 1, "tokens": 3}).encode(),
        *(
            lambda document, name=name, value=value: json.dumps(
                {"format": 1, "tokens": [{**document["tokens"][0], name: value}]}
            ).encode()
            for name, value in [
                ("expires", "never"),
                ("expires", True),
                ("scopes", ["read", "all"]),
                ("tags", [1]),
                ("user", ""),
                ("id", "../../etc"),
                ("digest", None),
            ]
        ),
    ],
)
def test_a_file_that_makes_no_sense_lets_nobody_in(tokens, change, caplog, tmp_path):
    text = tokens.create("ann")[1]
    document = json.loads(tokens.path.read_bytes())
    store = MemoryStore()
    settings = Settings(access=AccessRules(tokens=tokens.path))
    tokens.path.write_bytes(change(document))
    with pytest.raises(DamagedError, match="no tokens in the file"):
        tokens.load()
    with pytest.raises(DamagedError):
        tokens.create("bob")
    with store, serve_background(store, access=access_of(settings, store)) as url:
        assert ask(url, "GET", "/query").status == 401
        assert ask(url, "GET", "/query", f"Authorization: Bearer {text}").status == 401
    assert caplog.messages[0].startswith("Nobody gets in by a token until this is mended: ")


# -- at the server ---------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path):
    with lab_of(MemoryStore(), tmp_path) as lab:
        yield lab


def test_the_token_is_nowhere_but_with_its_user(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "store"
    store = SQLiteStore(folder)
    with lab_of(store, folder) as lab:
        text = lab.token("ann")
        lab.put("ann", "a")
        assert lab.ask("ann", "GET", "/keys/b/data").status == 404
        with Wire(lab.url) as wire:
            assert wire.ask("GET", "/query", f"Authorization: Bearer {text[:-1]}").status == 401
            assert wire.ask("GET", "/query", f"Authorization: Basic {text}").status == 401
    secret = text.rpartition("_")[2].encode()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 3
    assert [file for file in files if secret in file.read_bytes()] == []
    assert secret.decode() not in caplog.text
    with open_store(f"sqlite:{folder}") as again:  # which has no objection to the files
        assert [*again.verify().problems, *again.query_keys()] == ["a"]


def test_a_token_is_taken_as_a_header_field_in_any_case_and_nowhere_else(lab):
    text = lab.token("ann")
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert ask(lab.url, "GET", "/query", f"Authorization: {scheme} {text}").status == 200
    for lines in (
        [],
        [f"Authorization: {text}"],
        [f"Authorization: Basic {text}"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer \xff"],
        [f"Cookie: token={text}"],
        [f"X-Api-Key: {text}"],
    ):
        answer = ask(lab.url, "GET", f"/query?access_token=%22{text}%22", *lines)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.problem["type"] == "urn:kvstore:error:authentication"
    twice = [lab.line("ann")] * 2
    assert ask(lab.url, "GET", "/query", *twice).status == 400


def test_wrong_tokens_are_refused_in_the_same_words(lab):
    text = lab.token("ann")
    (token,) = lab.tokens.load().values()
    expected = None
    for wrong in (
        token_text.new_text(token.id),
        token_text.new_text(token_text.new_id()),
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        "kvs_",
        "a.b.c",
    ):
        problem = ask(lab.url, "GET", "/query", f"Authorization: Bearer {wrong}").problem
        del problem["request_id"]
        assert problem["status"] == 401
        assert problem == (expected := expected or problem)


def test_a_token_ends_by_its_time_and_by_being_revoked_also_on_a_connection_that_is_kept(lab):
    now = lab.tokens.clock()
    lab.tokens.clock = lambda: now
    ann, bob = lab.token("ann", expires=now + 5), lab.token("bob")
    with Wire(lab.url) as wire:
        assert wire.ask("GET", "/query", f"Authorization: Bearer {ann}").status == 200
        assert wire.ask("GET", "/query", f"Authorization: Bearer {bob}").status == 200
        lab.tokens.clock = lambda: now + 5
        answer = wire.ask("GET", "/query", f"Authorization: Bearer {ann}")
        assert answer.problem["detail"] == "The token 'ann' has expired."
        lab.tokens.revoke("bob")
        assert wire.ask("GET", "/query", f"Authorization: Bearer {bob}").status == 401


def test_when_a_token_was_last_used_is_noted_now_and_then(tokens):
    token, _ = tokens.create("ann")
    assert tokens.last_used(token) is None
    now = tokens.clock()
    for at, noted in [(now, now), (now + 59, now), (now + 61, now + 61)]:
        tokens.clock = lambda at=at: at
        tokens.note_use(token)
        assert tokens.last_used(token) == pytest.approx(noted, abs=1e-3)
    tokens.revoke("ann")
    assert tokens.last_used(token) is None
    tokens._used = tokens.path / "none"  # a disk that fails keeps nobody out
    tokens.note_use(token)


def test_a_file_that_is_gone_lets_nobody_in(lab, caplog):
    line = lab.line("ann")
    assert ask(lab.url, "GET", "/query", line).status == 200
    lab.tokens.path.unlink()
    assert ask(lab.url, "GET", "/query", line).status == 401
    assert ask(lab.url, "GET", "/query").status == 401
    assert "is gone, and so nobody gets in" in caplog.text


def test_a_server_is_open_until_the_first_token_is_made_and_never_again(tmp_path):
    store = MemoryStore(user_tag="me")
    tokens = Tokens(tmp_path / "tokens.json")
    access = access_of(Settings(access=AccessRules(tokens=tokens.path)), store)
    access._authenticators = (authenticator(tokens),)
    access._closed = access._authenticators[0].exists
    with store, serve_background(store, access=access) as url:
        assert ask(url, "PUT", "/keys/a/data", body=b"x").status == 201
        text = tokens.create("ann")[1]
        assert ask(url, "GET", "/query").status == 401
        assert ask(url, "GET", "/query", f"Authorization: Bearer {text}").body == b""
        tokens.path.unlink()
        assert ask(url, "GET", "/query").status == 401
        assert store.get_permissions("a") == {"owned": {"me"}}


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        (Settings(), True),
        (Settings(host="::1"), True),
        (Settings(access=AccessRules(open=True), host="0.0.0.0"), True),
        (Settings(host="0.0.0.0", insecure=True), False),
        (Settings(access=AccessRules(public_read=True)), False),
        (Settings(allow_hosts=("lab",)), False),
        (Settings(trusted_proxies=("127.0.0.1",)), False),
    ],
)
def test_only_a_server_for_this_machine_alone_is_open_unsaid(settings, is_open, tmp_path):
    store = MemoryStore()
    assert (access_of(settings, store) is None) is is_open
    with_file = Settings(
        **{
            **{name: getattr(settings, name) for name in settings.__slots__},
            "access": AccessRules(
                open=settings.access.open,
                public_read=settings.access.public_read,
                tokens=tmp_path / "tokens.json",
            ),
        }
    )
    access = access_of(with_file, store)
    assert (access is None or access.is_open()) is is_open
    Tokens(tmp_path / "tokens.json").create("ann")
    access = access_of(with_file, store)
    assert (access is None or access.is_open()) is settings.access.open


# -- too many failures -----------------------------------------------------------------------


def test_failures_are_counted_by_address_in_bounded_memory():
    now = 0.0
    failures = Failures(2, clock=lambda: now)

    def count(address):
        failures.count((address, 1))

    for address in ("10.0.0.1", "2001:db8::1"):
        count(address)
        count(address)
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "2001:db8::ffff"):
        with pytest.raises(UnavailableError) as caught:
            count(address)
        assert (caught.value.status, caught.value.retry_after) == (429, 60)
    count("2001:db8:0:1::1")
    count("10.0.0.2")
    failures.count(None)
    now = 61.0
    count("10.0.0.1")
    for number in range(20_000):
        count(f"host-{number}" * 100)
    assert len(failures) == 10_000


def test_too_many_wrong_tokens_are_told_to_wait_and_right_ones_are_not(tmp_path):
    # The address is what the proxy says of its clients, of whom one has a wrong token.
    settings = Settings(trusted_proxies=("127.0.0.0/8",), access=AccessRules(failures=3))
    tokens = Tokens(tmp_path / "tokens.json")
    right = tokens.create("ann")[1]
    store = MemoryStore()
    rules = AccessRules(failures=3, tokens=tokens.path)
    with store:
        app = app_of(store, Settings(trusted_proxies=("127.0.0.0/8",), access=rules))
        with running(app, settings=settings) as url:

            def status(text, address):
                lines = [f"Authorization: Bearer {text}", f"X-Forwarded-For: 1.1.1.1, {address}"]
                return ask(url, "GET", "/query", *lines)

            wrong = right[:-1]
            found = [status(wrong, "192.0.2.7").status for _ in range(5)]
            assert found == [401, 401, 401, 429, 429]
            late = status(wrong, "192.0.2.7")
            assert 0 < int(late.headers["Retry-After"]) <= 60
            assert status(right, "192.0.2.7").status == 200
            assert status(wrong, "192.0.2.8").status == 401


def test_addresses_that_a_client_makes_up_count_for_nothing(tmp_path):
    with lab_of(MemoryStore(), tmp_path, failures=2) as lab:
        found = [
            ask(
                lab.url, "GET", "/query", "Authorization: Bearer x", f"X-Forwarded-For: 192.0.2.{n}"
            ).status
            for n in range(3)
        ]
        assert found == [401, 401, 429]
        assert lab.ask(None, "GET", "/query").status == 401  # who has none is no failure


# -- in Python ---------------------------------------------------------------------------------


def test_a_program_has_its_token_and_learns_that_it_holds_no_more(lab: Lab):
    with open_store(lab.url, token=lab.token("ann", tags=["staff"])) as store:
        assert store.user_tag() == "ann"
        store.set("a", b"x", metadata={"n": 1})
        assert store.get_permissions("a") == {"owned": {"ann"}}
        lab.tokens.revoke("ann")
        with pytest.raises(AuthenticationError):
            store.get("a")
    with pytest.raises(AuthenticationError):
        open_store(lab.url)
    text = lab.token("bob")
    with open_store(lab.url, ("bob", BearerAuth(text))) as store:
        assert not store.exists("a")
    for wrong in ({"token": "ü"}, {"token": ""}, {"token": text, "credentials": (None, None)}):
        with pytest.raises(InvalidRequestError):
            open_store(lab.url, **wrong)
    with pytest.raises(InvalidRequestError, match="for a server"):
        open_store("memory:", token=text)
