from __future__ import annotations

import pickle
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from kvstore.errors import InvalidKeyError, InvalidRequestError
from kvstore.keys import check_key
from kvstore.profiles.templates import Template
from tests.cases import each
from tests.corpora import keys as nasty_keys

BASE = "http://host:8080/store"
PARTS = Template("{base}/{key}/{part}")
WHOLE = Template("{base}/{key}")
QUERY = Template("{base}?id={key}")
TEMPLATES = [
    PARTS,
    WHOLE,
    QUERY,
    Template("{key}"),
    Template("{base}{key}"),
    Template("{base}/{part}/{key}"),
    Template("{base}/{part};{key}"),
    Template("{base}/{key};part={part}"),
    Template("{base}/({key})/{part}/x"),
    Template("{base}/get?part={part}&id={key}"),
    Template("{base}/get?id={key}&part={part}&v=1"),
    Template("{base}/{key}?part={part}"),
    Template("{base}/{part}?{key}"),
    Template("https://proxy.example/?u={base}/{key}"),
    Template("{base}/{version}/{key}/{part}", extra=("version",)),
    Template("{base}/{key}?part={part}&version={version}", extra=("version",)),
]

# Any text, with much of what has a meaning in URLs.
TEXT = st.characters(exclude_categories=["Cs"])
NASTY = st.sampled_from(
    ["/", "%", "?", "#", "&", "=", "+", ";", ".", " ", "data", "%2F", "\n", "ž"]
)
KEYS = st.text(TEXT) | st.lists(NASTY | TEXT).map("".join)
VALUES = KEYS.filter(lambda text: text not in (".", ".."))
BASES = st.sampled_from([BASE, "", "/", "http://h", "http://h/a?token=1&x=", "http://h/(a.b)*/"])


@given(st.sampled_from(TEMPLATES), BASES, KEYS, VALUES, VALUES)
@example(PARTS, BASE, "", "", "")
@example(PARTS, BASE, "/a//b/data", "data", "")
@example(Template("{base}/{part};{key}"), BASE, "a;b", "c;d", "")
def test_matching_undoes_expanding(
    template: Template, base: str, key: str, part: str, version: str
) -> None:
    given_values = {"key": key, "part": part, "version": version}
    url = template.expand(base=base, **given_values)
    assert template.match(url, base=base) == {
        slot: given_values[slot] for slot in template.slots if slot != "base"
    }
    assert url.isascii()
    assert not set(' "<>\\^`{|}#\n').intersection(url)


@given(KEYS, VALUES)
@example("a.b.c", "d")
@example("a-", "-b")
@example("a", "/")
def test_a_template_without_a_dividing_character_refuses_what_it_cannot_undo(
    key: str, part: str
) -> None:
    for text in (
        "{base}/{key}.{part}",
        "{base}/{part}--{key}",
        "{base}/{key}%2F{part}",
        "{base}/{key}2F{part}",
    ):
        template = Template(text)
        try:
            url = template.expand(base=BASE, key=key, part=part)
        except InvalidRequestError:
            continue
        assert template.match(url, base=BASE) == {"key": key, "part": part}


def test_a_value_that_holds_the_divider_is_refused() -> None:
    template = Template("{base}/{key}.{part}")
    assert template.expand(base="b", key="a.b", part="json") == "b/a.b.json"
    with pytest.raises(InvalidRequestError, match="where one value ends"):
        template.expand(base="b", key="a", part="meta.json")


@given(KEYS)
def test_default_urls_are_those_of_the_protocol(key: str) -> None:
    escaped = quote(key, safe="/~!$&'()*+,;=:@")
    assert PARTS.expand(base=BASE, key=key, part="data") == f"{BASE}/{escaped}/data"


@given(KEYS)
def test_a_query_parser_reads_the_key(key: str) -> None:
    query = urlsplit(QUERY.expand(base=BASE, key=key)).query
    assert parse_qsl(query, keep_blank_values=True) == [("id", key)]


@pytest.mark.parametrize("template", [PARTS, WHOLE, QUERY], ids=lambda template: template.text)
def test_requests_sends_the_url_unchanged(template: Template) -> None:
    sent = 0
    for _, key in nasty_keys():
        try:
            check_key(key)
        except InvalidKeyError:
            continue
        url = template.expand(base=BASE, key=key, part="data")
        assert requests.Request("GET", url).prepare().url == url
        assert template.match(url, base=BASE) == {
            "key": key,
            **({"part": "data"} if template is PARTS else {}),
        }
        sent += 1
    assert sent > 100


@each(
    "template, key, url",
    [
        (PARTS, "plain/key", f"{BASE}/plain/key/data"),
        (PARTS, "~!$&'()*+,;=:@", f"{BASE}/~!$&'()*+,;=:@/data"),
        (PARTS, "a b?c#d%2F", f"{BASE}/a%20b%3Fc%23d%252F/data"),
        (PARTS, "žluť", f"{BASE}/%C5%BElu%C5%A5/data"),
        (PARTS, "/a//b/", f"{BASE}//a//b//data"),
        (PARTS, "x/data", f"{BASE}/x/data/data"),
        (WHOLE, "a+b", f"{BASE}/a+b"),
        (QUERY, "a&b=c", f"{BASE}?id=a%26b%3Dc"),
        (QUERY, "a+b;c?d#e/f", f"{BASE}?id=a%2Bb%3Bc%3Fd%23e/f"),
        (Template("{base}&id={key}"), "a&b", f"{BASE}&id=a&b"),
    ],
)
def test_spelling_of_a_key(template: Template, key: str, url: str) -> None:
    assert template.expand(base=BASE, key=key, part="data") == url


def test_a_base_with_a_query_puts_the_key_in_the_query() -> None:
    template = Template("{base}&id={key}")
    assert template.expand(base="http://h/?a=1", key="b&c") == "http://h/?a=1&id=b%26c"


def test_other_slots_hold_no_slash() -> None:
    assert PARTS.expand(base="b", key="k", part="a/b+c:é") == "b/k/a%2Fb%2Bc%3A%C3%A9"


def test_many_bases_and_parts_are_served_and_not_all_remembered() -> None:
    for number in range(600):
        url = PARTS.expand(base=f"b{number}", key="k", part=f"p{number}")
        assert PARTS.match(url, base=f"b{number}") == {"key": "k", "part": f"p{number}"}
    assert len(PARTS._bound) <= 256
    assert len(PARTS._patterns) <= 256


@each(
    "template, url, values",
    [
        (PARTS, "/k/data", {"key": "k", "part": "data"}),
        (PARTS, "/a/data/data", {"key": "a/data", "part": "data"}),
        (PARTS, "//data", {"key": "", "part": "data"}),
        (PARTS, "/a+b/d%61ta", {"key": "a+b", "part": "data"}),
        (PARTS, "/a%2fb%2Bc/data", {"key": "a/b+c", "part": "data"}),
        (PARTS, '/raw "<>^`{|}/data', {"key": 'raw "<>^`{|}', "part": "data"}),
        (PARTS, "/é/data", {"key": "é", "part": "data"}),
        (PARTS, "/a\nb/data", {"key": "a\nb", "part": "data"}),
        (PARTS, "/k", None),
        (PARTS, "/k%2Fdata", None),
        (PARTS, "k/data", None),
        (PARTS, "/k/data?x=1", None),
        (PARTS, "/k/data#x", None),
        (PARTS, "/k/d%ZZ", None),
        (PARTS, "/k/%FF", None),
        (WHOLE, "/a/data", {"key": "a/data"}),
        (WHOLE, "", None),
        (QUERY, "?id=a+b", {"key": "a+b"}),
        (QUERY, "?id=a/b?c", {"key": "a/b?c"}),
        (QUERY, "?id=a&x=1", None),
        (QUERY, "?ID=a", None),
    ],
)
def test_matching(template: Template, url: str, values: dict[str, str] | None) -> None:
    assert template.match(url) == values
    assert template.match(f"/a.b{url}", base="/a.b") == values
    assert template.match(f"/aXb{url}", base="/a.b") is None


@each(
    "key",
    [
        "%",
        "a%",
        "%2",
        "%zz",
        "%u0041",
        "%FF",
        "%C0%AF",
        "%ED%A0%80",
        "%F4%90%80%80",
        "a\udcff",
        "%%41",
    ],
)
def test_a_malformed_key_is_named(key: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        PARTS.match(f"/{key}/data")
    assert repr(key) in str(caught.value)


def test_a_key_without_utf8_is_refused() -> None:
    with pytest.raises(InvalidKeyError, match="udc80") as caught:
        PARTS.expand(base=BASE, key="a\udc80", part="data")
    assert caught.value.key == "a\udc80"


@pytest.mark.parametrize("value", [".", "..", "\ud800"])
def test_a_value_that_no_path_can_hold_is_named(value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        PARTS.expand(base=BASE, key="k", part=value)
    assert repr(value) in str(caught.value)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="'part'"):
        PARTS.expand(base=BASE, key="k")


@each(
    "text, named",
    [
        ("{base}/{key}/{port}", "'port'"),
        ("{base}/{key.x}", "'key.x'"),
        ("{base}/{key.__class__}", "'key.__class__'"),
        ("{base}/{key[0]}", "key[0]"),
        ("{base}/{}", "unknown slot ''"),
        ("{base}/{0}", "'0'"),
        ("{base}/{key!r}", "formats"),
        ("{base}/{key:>9}", "formats"),
        ("{base}/{key", "cannot be read"),
        ("{base}/key}", "cannot be read"),
        ("{base}/{{key}}", "'key'"),
        ("{base}/{{{key}", "no URL holds"),
        ("{base}/{part}", "no slot 'key'"),
        ("", "no slot 'key'"),
        ("{base}/{key}/{key}", "more than once"),
        ("{base}/{base}/{key}", "more than once"),
        ("{key}{base}", "'base' after"),
        ("{base}/{key}{part}", "nothing between"),
        ("{base}#{key}", "fragment"),
        ("{base}/a b/{key}", "no URL holds"),
        ("{base}/é/{key}", "no URL holds"),
        ("{base}/%{key}", "no URL holds"),
        ("{base}/{key}\n", "no URL holds"),
        ("{base}/../{key}", "'..'"),
        ("{base}/./{key}", "'.'"),
        ("{base}/.{key}", "'.'"),
        ("{base}/{key}.", "'.'"),
        (b"{base}/{key}", "no text"),
        (None, "no text"),
    ],
)
def test_a_bad_template_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Template(text)
    assert repr(text) in str(caught.value)
    assert named in str(caught.value) or "no URL holds" in str(caught.value)


def test_slots_are_in_their_order() -> None:
    assert PARTS.slots == ("base", "key", "part")
    assert Template("/{version}/{key}", extra=("version",)).slots == ("version", "key")


def test_templates_are_values() -> None:
    twin = Template("{base}/{key}/{part}")
    PARTS.expand(base=BASE, key="k", part="data")
    assert twin == PARTS
    assert hash(twin) == hash(PARTS)
    assert twin != WHOLE
    assert repr(twin) == "Template(text='{base}/{key}/{part}', extra=())"
    copy = pickle.loads(pickle.dumps(PARTS))
    assert copy == PARTS
    assert copy.expand(base="b", key="k", part="data") == "b/k/data"
