"""Profiles as documents: what is refused and where, what is bundled, URLs in both directions."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import DynamicURLStore, InvalidKeyError, InvalidRequestError, Profile
from kvstore.profiles.loading import bundled, bundled_names, load_profile
from kvstore.profiles.statuses import Statuses
from kvstore.testing.odd_keys import ODD_KEYS
from kvstore.testing.strategies import keys
from tests.cases import each

NAMES = ("datasafe", "filetracker", "kvstore", "static", "vospace", "webdav")
SMALL: dict[str, Any] = {
    "profile": 1,
    "name": "small",
    "operations": {"get": {"url": "{base}/{key}"}, "set": {"url": "{base}/{key}"}},
}
LISTING = {"format": "lines", "facts": {"key": "line"}}


def changed(pointer: str, value: Any) -> dict[str, Any]:
    """SMALL with *value* at a place that is made if it is missing."""
    document: Any = copy.deepcopy(SMALL)
    *steps, last = pointer.split("/")[1:]
    place = document
    for step in steps:
        place = place.setdefault(step, {})
    place[last] = value
    return dict(document)


def test_the_bundled_ones_are_these():
    assert bundled_names() == NAMES


@each("name", NAMES)
def test_each_bundled_one_is_valid_and_says_what_it_is(name):
    profile = bundled(name)
    assert profile.name == name
    assert len(profile.description) > 20
    assert repr(profile) == f"<Profile {name!r}>"


@each("name", NAMES)
def test_a_profile_is_a_value(name):
    profile = load_profile(name)
    twin = pickle.loads(pickle.dumps(profile))
    assert twin == profile == Profile.of(profile.document)
    assert hash(twin) == hash(profile)
    assert twin.operations.keys() == profile.operations.keys()
    assert profile != Profile.of(SMALL)


def test_the_document_is_copied():
    document = copy.deepcopy(SMALL)
    profile = Profile.of(document)
    document["operations"].clear()
    assert profile.document == SMALL


TEMPLATES = [
    (f"{name} {operation}", template)
    for name in NAMES
    for operation, described in bundled(name).operations.items()
    if (template := described.template) is not None
]


@pytest.mark.parametrize("template", [t for _, t in TEMPLATES], ids=[name for name, _ in TEMPLATES])
@given(key=keys(), base=st.sampled_from(["", "/dav", "http://host:8080/a/b"]))
def test_urls_of_bundled_profiles_work_both_ways(template, key, base):
    assert template.match(template.expand(base=base, key=key), base=base) == {"key": key}


@pytest.mark.parametrize("safe", ["", "/", "/:@"])
@given(key=keys())
def test_urls_work_both_ways_whatever_is_quoted(safe, key):
    document = {**SMALL, "keys": {"safe": safe}}
    template = Profile.of(document).operations["get"].template
    assert template is not None
    url = template.expand(base="/x", key=key)
    assert template.match(url, base="/x") == {"key": key}
    assert set(url.removeprefix("/x/")) <= {*"abcdefghijklmnopqrstuvwxyz-._~%0123456789", *safe} | {
        *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    }


def test_a_key_in_a_query_is_quoted_as_that_needs():
    template = (
        Profile.of(changed("/operations/get/url", "{base}?k={key}")).operations["get"].template
    )
    assert template is not None
    for key in ODD_KEYS.values():
        assert template.match(template.expand(base="/x", key=key), base="/x") == {"key": key}
    assert template.expand(base="/x", key="a&b=c d") == "/x?k=a%26b%3Dc%20d"


@each(
    "pointer, value, told",
    [
        ("/profile", 2, "/profile"),
        ("/name", "", "/name"),
        ("/name", "a b", "/name"),
        ("/operation", {}, "operation"),
        ("/operations/fetch", {"url": "{base}"}, "/operations"),
        ("/operations/get/methode", "GET", "/operations/get"),
        ("/operations/get/method", "get", "/operations/get/method"),
        ("/operations/get/query", {"q": {"form": "key"}}, "/operations/get/query/q"),
        ("/operations/get/query", {"q": {"from": "user"}}, "/operations/get/query/q"),
        ("/operations/get/headers", {"a b": "c"}, "/operations/get/headers"),
        ("/operations/get/status", {"999": "ok"}, "/operations/get/status"),
        ("/operations/get/status", {"404": "gone"}, "/operations/get/status/404"),
        ("/operations/get/facts", {"sice": "header:X"}, "/operations/get/facts"),
        ("/operations/get/facts", {"size": "heder:X"}, "/operations/get/facts/size"),
        ("/operations/set/verify", [{"gone": True}], "/operations/set/verify/0"),
        ("/operations/set/verify", [{"from": "text", "message": ""}], "/operations/set/verify/0"),
        ("/operations/list", {"url": "{base}", "listing": {**LISTING, "format": "csv"}}, "format"),
        ("/metadata", {"carrier": "cookies"}, "/metadata"),
        ("/metadata", {"carrier": "headers"}, "/metadata"),
        ("/metadata", {"carrier": "none", "prefix": "X-"}, "/metadata"),
        ("/auth", {"heder": "X"}, "/auth"),
        ("/keys/safe", "%", "/keys/safe"),
        ("/timeouts", {"reed": 1}, "/timeouts"),
        ("/timeouts", {"read": 0}, "/timeouts/read"),
        ("/redirects", -1, "/redirects"),
        ("/capabilities", {"fast": True}, "/capabilities"),
        ("/url_format", "{base}/{key}/{part}", "url_format"),
        ("/dialect", "kvstore", "operations"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_with_its_place(pointer, value, told):
    with pytest.raises(InvalidRequestError) as caught:
        Profile.of(changed(pointer, value))
    assert "is not valid at" in caught.value.message
    assert told in caught.value.message
    assert len(caught.value.message) < 500


@each(
    "pointer, value, told",
    [
        ("/operations/get/url", "{base}/{user}", "unknown slot 'user'"),
        ("/operations/get/url", "{base}", "has no slot 'key'"),
        ("/operations/get/url", "{base}/../{key}", "segment"),
        ("/keys/pattern", "(", "/keys/pattern"),
        ("/keys/reject", [{"pattern": "[", "rule": "r"}], "/keys/reject/0/pattern"),
        ("/operations/list", {"url": "{base}"}, "/operations/list"),
        ("/operations/get/listing", LISTING, "/operations/get"),
        ("/operations/list", {"url": "{base}/{prefix}/{key}", "listing": LISTING}, "both"),
    ],
)
def test_what_the_schema_cannot_say_is_refused_too(pointer, value, told):
    with pytest.raises(InvalidRequestError) as caught:
        Profile.of(changed(pointer, value))
    assert told in caught.value.message


@each("document", [None, [], "{}", 7, {}])
def test_what_is_no_document_is_refused(document):
    with pytest.raises(InvalidRequestError):
        Profile.of(document)


def test_profiles_are_loaded_from_all_that_may_be_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.json").write_text(json.dumps(SMALL))
    small = Profile.of(SMALL)
    for given_as in (small, SMALL, "small.json", "./small.json", tmp_path / "small.json"):
        assert load_profile(given_as) == small
        assert DynamicURLStore("http://host", profile=given_as)._profile == small
    assert load_profile("webdav") is bundled("webdav")


@pytest.mark.parametrize("given_as", [None, 7, ["webdav"], b"webdav"])
def test_what_names_no_profile_is_refused(given_as):
    with pytest.raises(InvalidRequestError, match="A profile is a name"):
        load_profile(given_as)


def test_an_unknown_name_tells_the_known_ones():
    known = "datasafe, filetracker, kvstore, static, vospace, webdav"
    with pytest.raises(InvalidRequestError, match=known):
        load_profile("webdaf")
    with pytest.raises(FileNotFoundError):
        load_profile("webdaf.json")


def test_a_file_that_is_no_json_is_refused_with_its_name(tmp_path):
    (tmp_path / "p.json").write_text('{"profile": 1, "profile": 1}')
    with pytest.raises(InvalidRequestError, match=r"profile in '.*p\.json'.*occurs twice"):
        load_profile(tmp_path / "p.json")


def test_keys_are_judged_by_the_rules_of_the_profile():
    rules = {"pattern": "[a-z/]+", "reject": [{"pattern": "//", "rule": "no empty segments"}]}
    profile = Profile.of({**SMALL, "keys": rules})
    assert profile.check_key("a/b") == "a/b"
    with pytest.raises(InvalidKeyError, match=r"has the form '\[a-z/\]\+'") as caught:
        profile.check_key("A")
    assert caught.value.key == "A"
    with pytest.raises(InvalidKeyError, match="'small': no empty segments"):
        profile.check_key("a//b")


def test_the_profile_of_kvstore_gives_the_urls_of_its_protocol():
    document = {
        "profile": 1,
        "name": "other",
        "dialect": "kvstore",
        "base": "{base}/k",
        "query": "{base}/q",
        "parts": {"permissions": "perms"},
    }
    store = DynamicURLStore("http://host/x/", profile=document)
    assert (store._basic.base, store._basic.query) == ("http://host/x/k", "http://host/x/q")
    assert store._basic.parts["permissions"] == "perms"
    twin = pickle.loads(pickle.dumps(store))
    assert twin._basic == store._basic
    given_too = DynamicURLStore("http://host/x", "http://host/other", profile="kvstore")
    assert (given_too._basic.base, given_too._basic.query) == (
        "http://host/x/keys",
        "http://host/other",
    )


def test_a_store_needs_a_query_url_or_a_profile():
    with pytest.raises(InvalidRequestError, match="needs a query URL, or a profile"):
        DynamicURLStore("http://host/keys")


def test_statuses_from_the_most_special_to_what_http_says():
    statuses = Statuses().over(
        {"404": "empty", "4xx": "bad_request", "500": "server_error"},
        [{"status": "4xx", "contains": "no such", "means": "missing"}],
    )
    told = {
        (404, ""): "empty",
        (404, "there is no such key"): "missing",
        (409, ""): "bad_request",
        (200, "no such"): "ok",
        (507, ""): "full",
        (299, ""): "server_error",
    }
    assert {case: statuses.meaning(*case) for case in told} == told
    assert Statuses().meaning(404) == "missing"
    expected = statuses.expected()
    assert {200, 404, 409, 500, 507} <= expected
    assert expected.isdisjoint({408, 425, 429, 502, 503, 504, 307, 308, 301})


@pytest.mark.parametrize("url", ["{base}{key}", "{base}@{key}/x", "http://other/{key}", "/{key}"])
def test_a_key_never_decides_where_the_credentials_go(url):
    document = changed("/operations/get/url", url)
    with pytest.raises(InvalidRequestError, match="/operations/get/url of the profile 'small'"):
        DynamicURLStore("http://host", profile=document)


def test_a_list_is_where_the_keys_are():
    document = changed("/operations/list", {"url": "{base}{prefix}", "listing": LISTING})
    with pytest.raises(InvalidRequestError, match="/operations/list/url"):
        DynamicURLStore("http://host", profile=document)
    DynamicURLStore("http://host/keys", profile=document)
