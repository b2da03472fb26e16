"""JSON documents from outside: strict parsing, canonical text, and the package's JSON Schemas."""

from __future__ import annotations

import functools
import json
import math
import re
from importlib import resources
from typing import Any, Literal, NoReturn, TypeAlias

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from kvstore.errors import InvalidMetadataError, InvalidRequestError, TooLargeError

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Any]

MAX_METADATA_BYTES = 1 << 20
MAX_DEPTH = 64
# Records, filters and the like hold metadata some levels down, and must pass with it.
_MAX_TEXT_DEPTH = MAX_DEPTH + 4

# CPython converts no longer text to an integer, nor back: it would take quadratic time.
_TOO_LONG = 10**4300
_TOO_LONG_BITS = _TOO_LONG.bit_length()

_ATOMS = frozenset({type(None), bool, int, float, str})
_BASES: tuple[Any, ...] = (int, float, dict, list, tuple)
# Possessive, and a string may lack its end: else a text of `\"` alone takes quadratic time.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def parse_json(raw: bytes | bytearray | memoryview, *, what: str = "document") -> Any:
    """Return the value of the JSON text *raw*, read strictly.

    RFC 8259 leaves to parsers what a duplicate name, a byte order mark or ``NaN`` means, and
    ``json.loads`` takes them all; two programs that read the same text differently are how a check
    is passed by. So these are refused, as are UTF-16, lone surrogates, numbers that overflow, and
    more than 68 levels (counted before parsing: the parser recurses), which leaves room for
    metadata of 64 within another document.

    Raises:
        InvalidRequestError: naming *what* and what is wrong with it.
    """
    raw = bytes(raw)
    if raw.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequestError(f"The {what} begins with a byte order mark.")
    _check_depth(raw, what)
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        # JSON can spell a lone surrogate (\ud800) that no UTF-8 text can hold.
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise InvalidRequestError(f"The {what} is no UTF-8 text: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The {what} is no JSON: {error}.") from None
    return value


def parse_object(raw: bytes | bytearray | memoryview, *, what: str = "document") -> JsonObject:
    """Return the JSON object in *raw*; as :func:`parse_json`, and anything else is refused."""
    value = parse_json(raw, what=what)
    if not isinstance(value, dict):
        raise InvalidRequestError(f"The {what} is a JSON {json_type(value)}, not an object.")
    return value


def dump_json(value: object) -> bytes:
    """Return *value* as compact UTF-8 JSON, names in their order; NaN raises ``ValueError``."""
    return _ENCODER.encode(value).encode()


def json_type(value: object) -> str:
    """Return the name that JSON has for the type of *value*."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return type(value).__name__


def check_metadata(metadata: object) -> JsonObject:
    """Return a deep copy of *metadata* that is a JSON object.

    The rules are those of ``schemas/metadata.schema.json``, checked here in the same pass that
    makes the copy, since a schema library costs more than storing a small value. What JSON Schema
    cannot say is checked too: finite numbers, no lone surrogates, at most 64 levels and 1 MiB of
    JSON text. Tuples become lists.

    Raises:
        InvalidMetadataError: with the JSON pointer of what breaks a rule.
        TooLargeError: over 1 MiB.
    """
    if not isinstance(metadata, dict):
        raise InvalidMetadataError(f"Metadata is a dict, not {type(metadata).__name__}.")
    budget = [MAX_METADATA_BYTES]
    copy: JsonObject = _copied(metadata, 1, budget)
    # The running sum takes each value for as short as it can be. Escapes, the longest of what
    # makes the JSON text longer, take six bytes for one: below an eighth nothing can go wrong.
    if budget[0] < MAX_METADATA_BYTES - MAX_METADATA_BYTES // 8:
        check_size(copy)
    return copy


def check_size(metadata: JsonObject) -> None:
    """Check the size of the JSON text of metadata that is legal otherwise.

    Raises:
        TooLargeError: over 1 MiB.
    """
    if len(dump_json(metadata)) > MAX_METADATA_BYTES:
        raise _too_large()


def copy_json(value: Any) -> Any:
    """Return a deep copy of a JSON value, faster than ``copy.deepcopy``."""
    if type(value) is dict:
        return {
            name: item if type(item) in _ATOMS else copy_json(item) for name, item in value.items()
        }
    if type(value) is list:
        return [item if type(item) in _ATOMS else copy_json(item) for item in value]
    return value


def check_document(document: object, schema: str, *, what: str) -> None:
    """Check *document* by the schema of that name which ships in the package.

    Raises:
        InvalidRequestError: naming *what*, the JSON pointer and the rule.
    """
    error = first_violation(schema_validator(schema), document)
    if error is not None:
        pointer, message = error
        raise InvalidRequestError(f"The {what} is not valid at {pointer or '/'!r}: {message}.")


@functools.cache
def schema_validator(name: str) -> Validator:
    """Return the validator for ``schemas/<name>.schema.json`` of the package."""
    source = resources.files("kvstore") / "schemas" / f"{name}.schema.json"
    return compile_schema(json.loads(source.read_text(encoding="utf-8")))


def compile_schema(schema: JsonObject) -> Validator:
    """Return a validator for *schema* (2020-12 unless its ``$schema`` says otherwise).

    What it refers to must be in the schema itself: nothing is fetched.

    Raises:
        InvalidRequestError: *schema* is no JSON Schema.
    """
    if not isinstance(schema, (dict, bool)) or not isinstance(_dialect(schema), str):
        raise InvalidRequestError(f"That is no JSON Schema: {schema!r:.100}.")
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidRequestError(f"That is no JSON Schema: {error.message:.200}.") from error
    return cls(schema, registry=Registry())


def _dialect(schema: JsonObject | bool) -> object:
    return "" if isinstance(schema, bool) else schema.get("$schema", "")


def first_violation(validator: Validator, document: Any) -> tuple[str, str] | None:
    """Return the JSON pointer and sentence of the most telling violation, or None.

    Raises:
        InvalidRequestError: the schema refers to what is not in it.
    """
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    except Unresolvable as unresolvable:
        message = f"The schema refers to what is not in it: {unresolvable!s:.200}."
        raise InvalidRequestError(message) from unresolvable
    except RecursionError:  # a document of 64 levels, and a schema with many steps to a level
        return "", "it is too deep to be checked"
    if error is None:
        return None
    message = error.message if len(error.message) <= 200 else f"{error.message[:197]}..."
    return json_pointer(error.absolute_path), message


def json_pointer(path: Any) -> str:
    """Return the JSON pointer (RFC 6901) for a sequence of names and indexes."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _copied(value: Any, depth: int, budget: list[int]) -> Any:
    cls = type(value)
    if cls is str:
        _spend(budget, len(value) + 2)
        return value if value.isascii() else _checked_text(value)
    if cls is int:
        bits = value.bit_length()
        if bits >= _TOO_LONG_BITS and abs(value) >= _TOO_LONG:
            raise InvalidMetadataError("Numbers in metadata have at most 4,300 digits.")
        _spend(budget, max(1, bits * 3 // 10))
        return value
    if value is None or cls is bool:
        _spend(budget, 4)
        return value
    if cls is float:
        if not math.isfinite(value):
            raise InvalidMetadataError(f"Metadata holds no {value!r}: JSON has none.")
        _spend(budget, 3)
        return value
    if cls is dict or cls is list or cls is tuple:
        if depth > MAX_DEPTH:
            message = f"Metadata has at most {MAX_DEPTH} levels (or it contains itself)."
            raise InvalidMetadataError(message)
        copier = _copied_object if cls is dict else _copied_array
        return copier(value, depth, budget)
    if isinstance(value, str):  # not str(value): for an enum that is its name
        return _copied(str.__str__(value), depth, budget)
    for base in _BASES:
        if isinstance(value, base):  # a subclass: stored as what it derives from
            return _copied(base(value), depth, budget)
    message = f"Metadata is JSON; {cls.__module__}.{cls.__qualname__} is not: {value!r:.100}."
    raise InvalidMetadataError(message)


def _copied_object(value: dict[Any, Any], depth: int, budget: list[int]) -> JsonObject:
    copy = {}
    name: Any = None
    try:
        for name, item in value.items():
            if type(name) is not str:
                name = _checked_name(name)
            elif not name.isascii():
                _checked_text(name)
            _spend(budget, len(name) + 4)
            copy[name] = _copied(item, depth + 1, budget)
    except InvalidMetadataError as error:
        raise _below(error, name) from None
    return copy


def _copied_array(value: list[Any], depth: int, budget: list[int]) -> list[Any]:
    _spend(budget, max(2, 1 + len(value)))
    copy: list[Any] = []
    try:
        for item in value:
            copy.append(_copied(item, depth + 1, budget))  # noqa: PERF401
    except InvalidMetadataError as error:
        raise _below(error, len(copy)) from None
    return copy


def _below(error: InvalidMetadataError, step: object) -> InvalidMetadataError:
    # The pointer is built on the way out, so that valid documents pay nothing for it.
    # A name may be refused for a lone surrogate, which the error must not carry on to a server.
    shown = json_pointer([step]).encode("utf-8", "backslashreplace").decode()
    error.pointer = (shown + error.pointer)[:1000]
    return error


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        message = f"Names in metadata are str, not {type(name).__name__}: {name!r:.100}."
        raise InvalidMetadataError(message)
    return _checked_text(str.__str__(name))


def _spend(budget: list[int], amount: int) -> None:
    budget[0] -= amount
    if budget[0] < 0:
        raise _too_large()


def _too_large() -> TooLargeError:
    return TooLargeError(f"Metadata has at most {MAX_METADATA_BYTES} bytes of JSON text.")


def _checked_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        message = f"Metadata holds no lone surrogate: {text!a:.100}."
        raise InvalidMetadataError(message) from None
    return text


def _check_depth(raw: bytes, what: str) -> None:
    # Most documents are shallow: a count of opening brackets settles those without a scan.
    if raw.count(b"{") + raw.count(b"[") <= _MAX_TEXT_DEPTH:
        return
    depth = 0
    for token in _BRACKETS.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > _MAX_TEXT_DEPTH:
                raise InvalidRequestError(f"The {what} has more than {_MAX_TEXT_DEPTH} levels.")
        elif first in b"]}":
            depth -= 1


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name!r:.100} occurs twice in one object")
            seen.add(name)
    return result


def _refuse_constant(name: Literal["NaN", "Infinity", "-Infinity"] | str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text:.40} is too large")
    return value


# Made once: to make one costs as much as to use it for a small document.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_finite
)
