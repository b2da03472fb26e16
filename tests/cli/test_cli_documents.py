from __future__ import annotations

import json

import pytest

from kvstore.errors import ConflictError


@pytest.fixture
def filled(store):
    with store:
        store.set("a", b"data", metadata={"one": 1, "two": "zwei", "many": [1, 2]})
    return store


def metadata(store):
    with store:
        return store.get_metadata("a")


def revision(store):
    with store:
        return store.get("a").revision


# -- meta ------------------------------------------------------------------------------------


def test_meta_shows_the_fields(filled, ok):
    assert ok("meta", "memory:", "a") == "one\t1\ntwo\tzwei\nmany\t[1,2]\n"
    assert json.loads(ok("meta", "memory:", "a", "--json")) == metadata(filled)


@pytest.mark.parametrize(
    ("words", "after"),
    [
        (["one=2"], {"one": 2, "two": "zwei", "many": [1, 2]}),
        (["three=drei", "one=null"], {"one": None, "two": "zwei", "many": [1, 2], "three": "drei"}),
        (["--metadata", '{"one": 2}', "two=2"], {"one": 2, "two": 2, "many": [1, 2]}),
        (["--metadata", "{}"], {"one": 1, "two": "zwei", "many": [1, 2]}),
        (["--replace", "one=2"], {"one": 2}),
        (["--replace"], {}),
        (["--unset", "one", "--unset", "nix"], {"two": "zwei", "many": [1, 2]}),
        (["--unset", "one", "two=2"], {"two": 2, "many": [1, 2]}),
        (["--unset", "one", "one=2"], {"one": 2, "two": "zwei", "many": [1, 2]}),
    ],
)
def test_meta_changes_fields(filled, ok, words, after):
    told = ok("meta", "memory:", "a", *words)
    assert metadata(filled) == after
    assert told == f"a\t{revision(filled)}\n"
    told = json.loads(ok("meta", "memory:", "a", *words, "--json"))
    assert told == {"key": "a", "revision": revision(filled)}
    with filled:
        assert filled.to_bytes("a") == b"data"


@pytest.mark.parametrize("words", [[], ["one=2"], ["--replace"], ["--unset", "one"]])
def test_meta_of_no_key_makes_none(filled, refused, words):
    assert refused(3, "meta", "memory:", "nix", *words) == "There is no key 'nix'."
    with filled:
        assert list(filled.query_keys()) == ["a"]


@pytest.mark.parametrize("words", [["one=2"], ["--replace", "one=2"], ["--unset", "one"]])
def test_meta_may_be_for_one_revision_only(filled, ok, refused, words):
    first = revision(filled)
    ok("meta", "memory:", "a", "--if-match", first, *words)
    after = metadata(filled)
    assert "is at revision" in refused(4, "meta", "memory:", "a", "--if-match", first, *words)
    assert metadata(filled) == after


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["one"], "Fields are given as name=value"),
        (["--replace", "--unset", "one"], "--replace leaves nothing for --unset"),
        (["--if-match", "x"], "--if-match is for changes"),
        (["--metadata", "{"], "The value of --metadata is no JSON"),
    ],
)
def test_meta_refuses_what_makes_no_sense(filled, refused, words, complaint):
    assert refused(2, "meta", "memory:", "a", *words).startswith(complaint)


@pytest.fixture
def disturbed(filled, monkeypatch):
    """Somebody else changes the key just before each of the next writes, so many times."""

    def disturbed(times):
        write = filled.set_metadata

        def set_metadata(key, document, **condition):
            nonlocal times
            if times:
                times -= 1
                filled.update_metadata(key, {"theirs": times})
            return write(key, document, **condition)

        monkeypatch.setattr(filled, "set_metadata", set_metadata)

    return disturbed


def test_unset_loses_no_change_of_others(filled, disturbed, ok):
    disturbed(4)
    ok("meta", "memory:", "a", "--unset", "one")
    assert metadata(filled) == {"two": "zwei", "many": [1, 2], "theirs": 0}


def test_unset_gives_up_where_others_never_stop(filled, disturbed, refused):
    disturbed(99)
    assert "is at revision" in refused(4, "meta", "memory:", "a", "--unset", "one")
    assert metadata(filled)["one"] == 1


def test_with_a_condition_there_is_one_try_only(filled, disturbed, refused):
    disturbed(1)
    refused(4, "meta", "memory:", "a", "--unset", "one", "--if-match", revision(filled))
    assert metadata(filled)["one"] == 1


# -- perms -----------------------------------------------------------------------------------


def permissions(store):
    with store:
        return store.get_permissions("a")


def test_perms_shows_who_may_what(filled, ok):
    with filled:
        filled.update_permissions("a", {"read": {"bob", "public"}})
    assert ok("perms", "memory:", "a") == 'owned\t["me"]\nread\t["bob","public"]\n'
    assert json.loads(ok("perms", "memory:", "a", "--json")) == {
        "owned": ["me"],
        "read": ["bob", "public"],
    }


@pytest.mark.parametrize(
    ("words", "after"),
    [
        (["--grant", "read=bob"], {"owned": {"me"}, "read": {"ann", "bob"}}),
        (
            ["--grant", "w=a=b", "--grant", "w=c"],
            {"owned": {"me"}, "read": {"ann"}, "w": {"a=b", "c"}},
        ),
        (["--revoke", "read=ann"], {"owned": {"me"}}),
        (["--revoke", "read=bob"], {"owned": {"me"}, "read": {"ann"}}),
        (["--revoke", "read=ann", "--grant", "read=bob"], {"owned": {"me"}, "read": {"bob"}}),
        (["--revoke", "owned=me", "--grant", "owned=you"], {"owned": {"you"}, "read": {"ann"}}),
        (["--set", '{"owned": ["you"]}'], {"owned": {"you"}}),
    ],
)
def test_perms_changes_them(filled, ok, words, after):
    with filled:
        filled.update_permissions("a", {"read": {"ann"}})
    told = ok("perms", "memory:", "a", *words)
    assert permissions(filled) == after
    assert told == f"a\t{revision(filled)}\n"


@pytest.mark.parametrize(
    "words", [["--grant", "r=x"], ["--revoke", "r=x"], ["--set", '{"owned": ["x"]}']]
)
def test_perms_may_be_for_one_revision_only(filled, ok, refused, words):
    first = revision(filled)
    ok("meta", "memory:", "a", "one=2")
    assert "is at revision" in refused(4, "perms", "memory:", "a", "--if-match", first, *words)
    assert permissions(filled) == {"owned": {"me"}}
    ok("perms", "memory:", "a", "--if-match", revision(filled), *words)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--grant", "read"], 2, "Permissions are given as name=tag, not 'read'"),
        (["--grant", "read="], 2, "Permissions are given as name=tag"),
        (["--revoke", "=bob"], 2, "Permissions are given as name=tag"),
        (["--set", "{}", "--grant", "r=x"], 2, "--set replaces all permissions"),
        (["--set", "{}"], 1, "Permissions hold 'owned' with at least one tag."),
        (["--set", '{"owned": "me"}'], 1, "The tags of permission 'owned' are a set of str"),
        (["--revoke", "owned=me"], 1, "Permissions hold 'owned' with at least one tag."),
        (["--if-match", "x"], 2, "--if-match is for changes"),
    ],
)
def test_perms_refuses_what_makes_no_sense(filled, refused, words, code, complaint):
    assert refused(code, "perms", "memory:", "a", *words).startswith(complaint)
    assert permissions(filled) == {"owned": {"me"}}


def test_perms_of_no_key(filled, refused):
    assert refused(3, "perms", "memory:", "nix") == "There is no key 'nix'."
    assert refused(3, "perms", "memory:", "nix", "--grant", "r=x") == "There is no key 'nix'."


def test_a_conflict_that_is_none_of_ours_is_told(filled, refused, monkeypatch):
    def conflict(*_, **__):
        raise ConflictError("Not now.")

    monkeypatch.setattr(filled, "update_metadata", conflict)
    assert refused(4, "meta", "memory:", "a", "one=2") == "Not now."
