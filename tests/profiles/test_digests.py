from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import IntegrityError, InvalidRequestError
from kvstore.profiles.digests import (
    DigestCheck,
    digest_of_field,
    field_of_digest,
    format_digest,
    parse_digest,
)
from tests.cases import each
from tests.corpora import entries

BODY = b"hello"
SHA256 = hashlib.sha256(BODY).digest()
SHA512 = hashlib.sha512(BODY).digest()
FIELD = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
OTHER = "sha-256=:/ddYXgjE4q/XHcq9tGNsidVXo/QtueIEDIu9FwiqTOc=:"
FIELD_512 = f"sha-512=:{base64.b64encode(SHA512).decode()}:"
CORPUS = list(entries("digests"))


def outcome(*fields: str, body: bytes = BODY) -> str:
    try:
        check = DigestCheck(list(fields))
        check.update(body[:2])
        check.update(body[2:])
        check.verify()
    except (IntegrityError, InvalidRequestError):
        return "reject"
    return "ok" if check.algorithms else "ignore"


@each("entry", CORPUS, ids=[f"{e['header']}: {e['value'][:50]}" for e in CORPUS])
def test_corpus(entry: dict[str, Any]) -> None:
    # Content-MD5 is no field of RFC 9530, and nobody hands it to a check.
    handled = entry["header"] != "Content-MD5"
    result = outcome(*[entry["value"]] if handled else [])
    assert (
        result
        in {
            "ok": ("ok", "ignore"),
            "reject": ("reject",),
            "reject-or-ignore": ("reject", "ignore"),
            "either": ("ok", "reject", "ignore"),
        }[entry["expect"]]
    )


@each(
    "value",
    [
        "sha-256",
        "sha-256=",
        "sha-256=::",
        "sha-256=:!!!:",
        "sha-256=:AAAA:",
        FIELD[:-1],
        FIELD.upper(),
        FIELD.replace(":", ""),
        FIELD + ",",
        "," + FIELD,
        FIELD + " " + FIELD_512,
        FIELD + ";",
        FIELD + ";X=1",
        FIELD + ";x=",
        FIELD + "\n",
        "unknown=1, " + FIELD,
        "unknown, " + FIELD,
        'unknown="a", ' + FIELD,
        "sha-256=:A:",
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwf=p0JecwQzYpOLmCQ:",
        "sha-512=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
    ],
)
def test_malformed_is_refused_and_named(value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        DigestCheck([value])
    assert value[:20].strip() in str(caught.value)


@each(
    "value, digests",
    [
        ("", {}),
        ("  ", {}),
        (FIELD, {"sha-256": SHA256}),
        (f"  {FIELD}  ", {"sha-256": SHA256}),
        (f"{FIELD}\t ,\t {FIELD_512}", {"sha-256": SHA256, "sha-512": SHA512}),
        (f"{OTHER}, {FIELD}", {"sha-256": SHA256}),
        (FIELD.replace("CQ=:", "CQ:"), {"sha-256": SHA256}),
        ("*a_b.c-d*9=:AAAA:", {"*a_b.c-d*9": b"\0\0\0"}),
        ("a=:AB==:", {"a": b"\0"}),
        (f'{FIELD};a;b=1;c=-1.5;d="x\\"y,";e=tok/en:;f=:AAAA:;  g=?0', {"sha-256": SHA256}),
    ],
)
def test_parsing(value: str, digests: dict[str, bytes]) -> None:
    assert parse_digest(value) == digests


@given(st.text(st.sampled_from('sha-256=:AA+/, ;\t"x\\?1'), max_size=40))
def test_any_text_is_parsed_or_refused(value: str) -> None:
    try:
        digests = parse_digest(value)
    except InvalidRequestError:
        return
    assert all(name in value for name in digests)


@given(st.binary())
def test_a_written_field_holds(body: bytes) -> None:
    hexadecimal = hashlib.sha256(body).hexdigest()
    field = format_digest(hexadecimal)
    assert parse_digest(field) == {"sha-256": bytes.fromhex(hexadecimal)}
    assert field_of_digest(f"sha256:{hexadecimal}") == field
    assert digest_of_field(field) == f"sha256:{hexadecimal}"
    assert outcome(field, body=body) == "ok"
    assert outcome(field, body=body + b"x") == "reject"


def test_a_field_without_sha256_gives_none() -> None:
    assert digest_of_field(FIELD_512) is None
    with pytest.raises(InvalidRequestError, match="has 3"):
        digest_of_field("sha-256=:AAAA:")


@each("value", ["", "ab", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_what_is_no_sha256_is_named(value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        format_digest(value)
    assert repr(value) in str(caught.value)
    for digest in (value, f"sha256:{value}", f"md5:{'0' * 64}", f"SHA256:{'0' * 64}"):
        with pytest.raises(InvalidRequestError) as caught:
            field_of_digest(digest)
        assert repr(digest) in str(caught.value)


def test_every_field_must_hold() -> None:
    assert outcome(FIELD, FIELD_512) == "ok"
    assert outcome(FIELD, OTHER) == "reject"
    assert outcome(OTHER, FIELD) == "reject"
    assert outcome("unknown=:AAAA:") == "ignore"
    assert outcome() == "ignore"


def test_a_mismatch_names_both_values_and_the_key() -> None:
    check = DigestCheck([OTHER])
    check.update(BODY)
    with pytest.raises(IntegrityError) as caught:
        check.verify(key="k")
    assert FIELD in str(caught.value)
    assert OTHER in str(caught.value)
    assert caught.value.key == "k"


def test_algorithms_are_those_checked() -> None:
    assert DigestCheck([f"{FIELD_512}, {FIELD}, md5=:AAAA:", FIELD]).algorithms == (
        "sha-256",
        "sha-512",
    )


def test_a_hasher_of_the_caller_is_read_and_not_fed() -> None:
    own = hashlib.sha256()
    check = DigestCheck([FIELD, FIELD_512], sha256=own)
    check.update(BODY)
    with pytest.raises(IntegrityError):
        check.verify()
    own.update(BODY)
    check.verify()
