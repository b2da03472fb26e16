"""JSON from outside: strict reading, and the checks and copies of metadata."""

from __future__ import annotations

import collections
import enum
import json
import math
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import documents
from kvstore.documents import (
    MAX_DEPTH,
    MAX_METADATA_BYTES,
    check_document,
    check_metadata,
    check_size,
    compile_schema,
    copy_json,
    dump_json,
    first_violation,
    json_pointer,
    json_type,
    parse_json,
    parse_object,
    schema_validator,
)
from kvstore.errors import (
    InvalidMetadataError,
    InvalidRequestError,
    StoreError,
    TooLargeError,
)
from tests.cases import each
from tests.corpora import Entry, entries, raw

patient = settings(deadline=None)

CORPUS = [pytest.param(entry, id=entry["id"]) for entry in entries("nasty_metadata")]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
finite = scalars.filter(lambda value: not (isinstance(value, float) and math.isinf(value)))
values = st.recursive(
    finite,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)


def nested(depth: int, container: Callable[[Any], Any]) -> Any:
    """Return an object of *depth* levels, itself one of them."""
    value: Any = 1
    for _ in range(depth - 1):
        value = container(value)
    return {"a": value}


def containers(value: Any) -> Iterator[Any]:
    """Yield every dict and list in *value*, itself included."""
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


# -- reading ---------------------------------------------------------------------------------


@each("entry", CORPUS)
def test_corpus(entry: Entry) -> None:
    text = raw(entry)
    refusal: StoreError | None = None
    try:
        metadata = check_metadata(parse_object(text, what="metadata"))
    except (InvalidRequestError, InvalidMetadataError, TooLargeError) as error:
        refusal = error

    if refusal is not None:
        assert entry["expect"] != "accept"
        assert len(refusal.message) < 300
        assert refusal.message.isprintable()
    else:
        assert entry["expect"] != "reject"
        assert metadata == json.loads(text)
        assert parse_object(dump_json(metadata)) == metadata


def test_corpus_has_all_kinds() -> None:
    kinds = collections.Counter(entry["expect"] for entry in entries("nasty_metadata"))
    assert kinds == {"accept": 39, "either": 58, "reject": 98}


@each(
    "text, reason",
    [
        (b"", "is no JSON: Expecting value"),
        (b" ", "is no JSON: Expecting value"),
        (b"{} {}", "is no JSON: Extra data"),
        (b"[1,]", "is no JSON"),
        (b'{"a":1,}', "is no JSON"),
        (b"'a'", "is no JSON"),
        (b'\xef\xbb\xbf{"a":1}', "begins with a byte order mark"),
        ('{"a":1}'.encode("utf-16"), "is no UTF-8 text"),
        ('{"a":1}'.encode("utf-16-le"), "is no JSON"),
        (b'"\xff"', "is no UTF-8 text"),
        (b'"\xc0\xaf"', "is no UTF-8 text"),
        (b'"\xed\xa0\x80"', "is no UTF-8 text"),
        (b"NaN", "NaN is no JSON number"),
        (b"[Infinity]", "Infinity is no JSON number"),
        (b'{"a":-Infinity}', "-Infinity is no JSON number"),
        (b"1e400", "the number 1e400 is too large"),
        (b"[-1e400]", "the number -1e400 is too large"),
        (b"1" * 4301, "is no JSON: Exceeds the limit"),
        (b'{"a":1,"a":1}', "the name 'a' occurs twice"),
        (b'{"a":1,"\\u0061":2}', "the name 'a' occurs twice"),
        (b'[{"b":{"a":1,"b":2,"a":3}}]', "the name 'a' occurs twice"),
        (b'"\\ud800"', "is no UTF-8 text"),
        (b'{"\\udfff":1}', "is no UTF-8 text"),
        (b'["\\ude00\\ud83d"]', "is no UTF-8 text"),
        (b'"a\nb"', "is no JSON"),
        (b'"a\tb"', "is no JSON"),
        (b'"\\x41"', "is no JSON"),
    ],
)
def test_refuses(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        parse_json(text, what="thing")
    assert caught.value.message.startswith("The thing ")


@each(
    "text, value",
    [
        (b"null", None),
        (b" [true , false] \n", [True, False]),
        (b"9007199254740993", 9007199254740993),
        (b"9" * 4300, 10**4300 - 1),
        (b"-0.0", -0.0),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"é\u2028\x7f"'.encode(), "é\u2028\x7f"),
        (b'"\\u0000"', "\0"),
        (b'{"":1,"$where":2,"a":3,"A":4}', {"": 1, "$where": 2, "a": 3, "A": 4}),
        (b'"[{[{\\"[{"', '[{[{"[{'),
    ],
)
def test_reads(text: bytes, value: Any) -> None:
    for form in (text, bytearray(text), memoryview(text)):
        read = parse_json(form)
        assert read == value
        assert type(read) is type(value)


def test_one_and_one_point_nought_stay_apart() -> None:
    assert [type(item) for item in parse_json(b"[1, 1.0, 1E0]")] == [int, float, float]
    assert dump_json(parse_json(b"[1,1.0]")) == b"[1,1.0]"


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'["{[\\"[",', b"]")]
)
def test_depth_is_counted_before_parsing(opening: bytes, closing: bytes) -> None:
    def text(levels: int) -> bytes:
        return opening * levels + b"0" + closing * levels

    assert parse_json(text(68)) is not None
    for levels in (69, 1_000, 1_000_000):
        with pytest.raises(InvalidRequestError, match="has more than 68 levels"):
            parse_json(text(levels))


def test_brackets_in_strings_are_no_levels() -> None:
    value = ["[" * 100, '"[' * 100, "\\" * 99 + "{" * 100]
    assert parse_json(dump_json(value)) == value


def test_unclosed_brackets_and_strings_end_soon() -> None:
    # With a scanner that goes back to each quote this would take hours.
    many = b"[" + b"[]," * 99
    for tail in (b'"' + b'\\"' * 500_000, b'"' + b"x" * 1_000_000, b'"' + b"\\" * 999_999):
        with pytest.raises(InvalidRequestError, match="is no JSON"):
            parse_json(many + tail)
    with pytest.raises(InvalidRequestError, match="levels"):
        parse_json(b"[" * 1_000_000)


@each(
    "text, kind",
    [
        (b"null", "null"),
        (b"true", "boolean"),
        (b"1", "number"),
        (b'"a"', "string"),
        (b'[["a",1]]', "array"),
    ],
)
def test_an_object_is_asked_for(text: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^The filter is a JSON {kind}, not an object"):
        parse_object(text, what="filter")


@patient
@given(values)
def test_reads_what_it_writes(value: Any) -> None:
    text = dump_json(value)
    assert parse_json(text) == value
    assert dump_json(parse_json(text)) == text


@patient
@given(st.binary(max_size=40) | st.text('[]{}",:0123e+-.\\unNaIl \ud800', max_size=40))
def test_reads_nothing_that_is_not_strict_json(text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        value = parse_json(data)
    except InvalidRequestError:
        return
    assert parse_json(dump_json(value)) == value == json.loads(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, True]}, b'{"b":1,"a":[null,true]}'),
        ({"é": "\u2028"}, '{"é":"\u2028"}'.encode()),
    ],
)
def test_writes_compact_utf8_in_order(value: Any, text: bytes) -> None:
    assert dump_json(value) == text


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, "\ud800"])
def test_writes_nothing_but_json(value: Any) -> None:
    with pytest.raises(ValueError):
        dump_json(value)


@each(
    "value, name",
    [
        (None, "null"),
        (True, "boolean"),
        (0, "number"),
        (0.5, "number"),
        ("", "string"),
        ([], "array"),
        ({}, "object"),
        ((), "tuple"),
        (b"", "bytes"),
    ],
)
def test_json_type(value: Any, name: str) -> None:
    assert json_type(value) == name


# -- metadata --------------------------------------------------------------------------------


@patient
@given(objects)
def test_a_copy_that_shares_nothing(metadata: dict[str, Any]) -> None:
    for copy in (check_metadata(metadata), copy_json(metadata)):
        assert copy == metadata
        assert dump_json(copy) == dump_json(metadata)
        assert not {id(c) for c in containers(copy)} & {id(c) for c in containers(metadata)}


# Numbers of other kinds are not among them: for a schema library they are numbers, in JSON none.
FOREIGN = [b"x", {1, 2}, frozenset(), object(), range(3), ..., json]
odd_values = st.recursive(
    finite | st.sampled_from(FOREIGN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@patient
@given(odd_values | st.dictionaries(texts, odd_values, max_size=4))
def test_agrees_with_the_schema(document: Any) -> None:
    violation = first_violation(schema_validator("metadata"), document)
    pointer = None
    try:
        check_metadata(document)
    except InvalidMetadataError as error:
        pointer = error.pointer

    assert (pointer is None) == (violation is None)
    if pointer:
        assert type(lookup(document, pointer)) in {type(value) for value in FOREIGN}


def lookup(document: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name) if isinstance(document, list) else name]
    return document


class _Colour(enum.IntEnum):
    RED = 3


class _Word(enum.StrEnum):
    FIRST = "first"


class _Mixed(str, enum.Enum):  # noqa: UP042 - its str() is the name, unlike that of StrEnum
    SECOND = "second"


class _Pair(NamedTuple):
    x: int
    y: float


class _Odd(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self


@each(
    "value, stored",
    [
        (_Colour.RED, 3),
        (_Word.FIRST, "first"),
        (_Mixed.SECOND, "second"),
        (_Odd("odd é"), "odd é"),
        (type("Float", (float,), {})(0.5), 0.5),
        (_Pair(1, 2.0), [1, 2.0]),
        ((1, (2, [3])), [1, [2, [3]]]),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (type("List", (list,), {})([1]), [1]),
        (True, True),
    ],
    ids=repr,
)
def test_subclasses_are_stored_as_what_they_derive_from(value: Any, stored: Any) -> None:
    copy = check_metadata(collections.OrderedDict(field=value))
    assert copy == {"field": stored}
    assert type(copy) is dict
    assert type(copy["field"]) is type(stored)
    assert dump_json(copy["field"]) == dump_json(stored)


def test_names_become_plain_str() -> None:
    copy = check_metadata({_Word.FIRST: 1, _Mixed.SECOND: {_Odd("é"): 2}})
    assert copy == {"first": 1, "second": {"é": 2}}
    assert {type(name) for name in (*copy, *copy["second"])} == {str}


@each("metadata", [None, [], [("a", 1)], "{}", b"{}", 1, object(), {"a"}])
def test_metadata_is_a_dict(metadata: Any) -> None:
    with pytest.raises(InvalidMetadataError, match=r"^Metadata is a dict, not ") as caught:
        check_metadata(metadata)
    assert caught.value.pointer == ""


@each(
    "metadata, pointer, reason",
    [
        ({"a": math.nan}, "/a", "no nan"),
        ({"a": [1, {"b": -math.inf}]}, "/a/1/b", "no -inf"),
        ({"a": (0, (b"x",))}, "/a/1/0", "builtins.bytes is not"),
        ({"a/b": {"~": {1, 2}}}, "/a~1b/~0", "builtins.set is not"),
        ({"": {"": object}}, "//", "builtins.type is not"),
        ({"a": Decimal(1)}, "/a", "decimal.Decimal is not"),
        ({1: "a"}, "/1", "Names in metadata are str, not int: 1"),
        ({"a": {None: 1}}, "/a/None", "Names in metadata are str, not NoneType: None"),
        ({"a": [{("b",): 1}]}, "/a/0/('b',)", "not tuple"),
        ({"a": "\ud800"}, "/a", "no lone surrogate: '.ud800'"),
        ({"a": {"x\udfff": 1}}, "/a/x\\udfff", "no lone surrogate"),
        ({"a": 10**4300}, "/a", "at most 4,300 digits"),
        ({"a": [-(10**5000)]}, "/a/0", "at most 4,300 digits"),
    ],
)
def test_a_violation_says_where(metadata: Any, pointer: str, reason: str) -> None:
    with pytest.raises(InvalidMetadataError, match=reason) as caught:
        check_metadata(metadata)
    assert caught.value.pointer == pointer
    assert caught.value.pointer.encode()  # a server can send it


def test_large_numbers_come_back_as_they_were() -> None:
    largest = 10**4300 - 1
    metadata = {"a": [2**53 + 1, -(2**64), 1e308, 5e-324, largest, -largest]}
    assert parse_object(dump_json(check_metadata(metadata))) == metadata


@each("name", ["$where", "$", "", "a.b", "__class__", "select", "a\nb", "\0"])
def test_every_name_is_allowed(name: str) -> None:
    assert check_metadata({name: 1}) == {name: 1}


CONTAINERS = [lambda inner: {"a": inner}, lambda inner: [inner], lambda inner: (inner,)]


@pytest.mark.parametrize("container", CONTAINERS, ids=["object", "array", "tuple"])
def test_at_most_64_levels(container: Callable[[Any], Any]) -> None:
    deepest = check_metadata(nested(MAX_DEPTH, container))
    # It must also pass within a record, as a server sends it.
    record = dump_json({"key": "k", "metadata": deepest})
    assert parse_object(record)["metadata"] == deepest

    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(InvalidMetadataError, match="at most 64 levels") as caught:
            check_metadata(nested(depth, container))
        assert caught.value.pointer.count("/") == 64


def test_an_empty_container_is_a_level() -> None:
    assert check_metadata(nested(MAX_DEPTH - 1, lambda inner: [inner, {}]))
    with pytest.raises(InvalidMetadataError, match="64 levels"):
        check_metadata({"a": nested(MAX_DEPTH, lambda inner: [inner])})


def test_metadata_that_contains_itself() -> None:
    cyclic: dict[str, Any] = {"x" * 100: None}
    cyclic["x" * 100] = cyclic
    circle: list[Any] = []
    circle.append(circle)
    for metadata in (cyclic, {"a": circle}):
        with pytest.raises(InvalidMetadataError, match="or it contains itself") as caught:
            check_metadata(metadata)
        assert len(caught.value.pointer) <= 1000


SHAPES: dict[str, Callable[[int], Any]] = {
    "text": lambda n: "x" * n,
    "two-byte text": lambda n: "é" * n,
    "four-byte text": lambda n: "😀" * n,
    "control characters": lambda n: "\x01" * n,
    "escapes": lambda n: '"\\\n' * n,
    "texts": lambda n: ["xyz"] * n,
    "empty texts": lambda n: [""] * n,
    "controls": lambda n: ["\x00"] * n,
    "digits": lambda n: [7] * n,
    "negative": lambda n: [-15] * n,
    "long integers": lambda n: [-(2**70)] * n,
    "short floats": lambda n: [1.0] * n,
    "long floats": lambda n: [-1.2345678901234567e-100] * n,
    "truths": lambda n: [True] * n,
    "lies": lambda n: [False] * n,
    "nulls": lambda n: [None] * n,
    "empty arrays": lambda n: [[]] * n,
    "empty objects": lambda n: [{}] * n,
    "arrays": lambda n: [[1]] * n,
    "objects": lambda n: [{"": 0}] * n,
    "names": lambda n: {str(i): 0 for i in range(n)},
}


def test_the_limit_of_one_mebibyte_is_exact() -> None:
    assert MAX_METADATA_BYTES == 1 << 20
    check_limit("text", MAX_METADATA_BYTES)


@each("shape", SHAPES)
def test_the_limit_is_exact_whatever_the_shape(shape: str) -> None:
    with mock.patch.object(documents, "MAX_METADATA_BYTES", 1 << 16):
        check_limit(shape, 1 << 16)


def check_limit(shape: str, limit: int) -> None:
    def document(count: int) -> dict[str, Any]:
        return {"a": SHAPES[shape](count)}

    def left(count: int) -> int:
        return limit - len(dump_json(document(count)))

    each = (left(1_000) - left(2_000)) / 1_000
    most = int(limit / each)
    while step := int(left(most) / each):
        most += step
    most += 1 if left(most + 1) >= 0 else -1 if left(most) < 0 else 0
    assert left(most) >= 0 > left(most + 1)

    check_size(document(most))
    assert check_metadata(document(most)) == document(most)
    with pytest.raises(TooLargeError, match=f"at most {limit} bytes"):
        check_size(document(most + 1))
    with pytest.raises(TooLargeError, match=f"at most {limit} bytes"):
        check_metadata(document(most + 1))


@patient
@given(objects.filter(bool))
def test_size_is_that_of_the_json_text(metadata: dict[str, Any]) -> None:
    size = len(dump_json(metadata))
    with mock.patch.object(documents, "MAX_METADATA_BYTES", size):
        assert check_metadata(metadata) == metadata
    with (
        mock.patch.object(documents, "MAX_METADATA_BYTES", size - 1),
        pytest.raises(TooLargeError),
    ):
        check_metadata(metadata)


# -- schemas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metadata", "permissions"])
def test_the_schemas_of_the_package(name: str) -> None:
    validator = schema_validator(name)
    assert validator is schema_validator(name)
    assert validator.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert validator.schema["$id"] == f"urn:kvstore:schema:{name}"
    assert first_violation(validator, {}) is None


def test_check_document_names_all() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_document({"read": ["a", 1]}, "permissions", what="list of tags")
    expected = "The list of tags is not valid at '/read/1': 1 is not of type 'string'."
    assert caught.value.message == expected
    check_document({"read": ["a"]}, "permissions", what="list of tags")


@each(
    "schema",
    [
        *(None, 5, "object", [], {"type": "nosuch"}, {"pattern": "("}, {"minimum": "1"}),
        *({"$schema": []}, {"properties": {"a": 1}}, {"patternProperties": {"(": {}}}),
    ],
    ids=repr,
)
def test_no_schema(schema: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^That is no JSON Schema: ") as caught:
        compile_schema(schema)
    assert len(caught.value.message) < 300


def test_the_dialect_is_as_the_schema_says() -> None:
    # Up to draft 4 this was a boolean beside "minimum".
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1}
    assert first_violation(compile_schema({**old, "exclusiveMinimum": True}), 1) is not None
    with pytest.raises(InvalidRequestError):
        compile_schema({"minimum": 1, "exclusiveMinimum": True})


def test_boolean_schemas() -> None:
    everything: Any = True
    nothing: Any = False
    assert first_violation(compile_schema(everything), {"a": 1}) is None
    assert first_violation(compile_schema(nothing), {"a": 1}) is not None


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a schema was fetched")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    for reference in ("http://127.0.0.1:9/schema", "file:///etc/passwd", "#/$defs/none", "other"):
        validator = compile_schema({"$ref": reference})
        with pytest.raises(InvalidRequestError, match="refers to what is not in it"):
            first_violation(validator, {})


def test_references_within_the_schema_and_to_the_dialects() -> None:
    validator = compile_schema({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert first_violation(validator, 1) is None
    assert first_violation(validator, "x") == ("", "'x' is not of type 'integer'")
    of_schemas = compile_schema({"$ref": "https://json-schema.org/draft/2020-12/schema"})
    assert first_violation(of_schemas, {"type": "object"}) is None
    assert first_violation(of_schemas, {"type": 1}) is not None


def test_a_violation_is_shown_short() -> None:
    found = first_violation(compile_schema({"type": "object"}), "x" * 1000)
    assert found is not None
    assert (found[0], len(found[1])) == ("", 200)
    assert found[1].endswith("...")


def test_a_schema_of_many_steps_to_a_level() -> None:
    schema: dict[str, Any] = {"items": {"$ref": "#"}}
    for _ in range(20):
        schema = {"allOf": [schema]}
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert first_violation(compile_schema(schema), deep) == ("", "it is too deep to be checked")


@each(
    "path, pointer",
    [
        ([], ""),
        (["a"], "/a"),
        (["a", 0], "/a/0"),
        ([""], "/"),
        (["a/b", "m~n", "~1"], "/a~1b/m~0n/~01"),
        (['k"l', " ", "é"], '/k"l/ /é'),
    ],
)
def test_json_pointer(path: list[str | int], pointer: str) -> None:
    assert json_pointer(path) == pointer
