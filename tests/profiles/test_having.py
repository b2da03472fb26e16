from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvstore.errors import (
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRequestError,
    TransportError,
)
from kvstore.profiles.having import (
    Claim,
    Finding,
    claim_line,
    finding_line,
    judge,
    parse_claim,
    parse_finding,
)
from kvstore.values import Record

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
HERE = Record("k", {"n": 1}, 3, mimetype="text/plain", revision="r", digest=ONE)


@pytest.mark.parametrize(
    ("claim", "wanted"),
    [
        # The same data.
        ({"digest": ONE}, "need_metadata"),
        ({"digest": ONE, "revision": "r"}, "have"),
        ({"digest": ONE, "revision": "s"}, "need_metadata"),
        ({"digest": ONE, "metadata": {"n": 1.0}}, "have"),
        ({"digest": ONE, "metadata": {"n": True}}, "need_metadata"),
        ({"digest": ONE, "metadata": {}}, "need_metadata"),
        ({"digest": ONE, "metadata": {"n": 1}, "mimetype": "text/plain"}, "have"),
        ({"digest": ONE, "metadata": {"n": 1}, "mimetype": "text/html"}, "need_data"),
        # Other data, or who knows.
        ({"digest": TWO, "metadata": {"n": 1}}, "need_data"),
        ({"digest": TWO, "revision": "r"}, "need_data"),
        ({"metadata": {"n": 1}}, "need_data"),
        ({"revision": "r"}, "need_data"),
        # Seen here before.
        ({"digest": TWO, "base": "r"}, "need_data"),
        ({"digest": ONE, "base": "r"}, "need_metadata"),
        ({"digest": TWO, "base": "q"}, "conflict"),
        ({"digest": ONE, "metadata": {}, "base": "q"}, "conflict"),
        ({"digest": ONE, "metadata": {"n": 1}, "base": "q"}, "have"),
    ],
)
def test_a_claim_is_compared_with_what_is_here(claim: dict[str, Any], wanted: str) -> None:
    assert judge(Claim("k", **claim), HERE) == Finding("k", wanted, "r")  # type: ignore[arg-type]


def test_of_what_is_not_here_all_is_needed_unless_it_was_here() -> None:
    assert judge(Claim("k", ONE), None) == Finding("k", "need_data", None)
    assert judge(Claim("k", ONE, base="r"), None) == Finding("k", "conflict", None)


def test_a_store_without_digests_or_revisions_has_nothing_for_sure() -> None:
    plain = replace(HERE, digest=None, revision=None)
    assert judge(Claim("k", metadata={"n": 1}), plain).status == "need_data"
    assert judge(Claim("k", ONE, "r", metadata={"n": 1}), plain).status == "need_data"


@pytest.mark.parametrize(
    "claim", [Claim("k"), Claim("é\n", ONE, "r", "b", {"n": [1, {"a": None}]}, "text/plain")]
)
def test_claims_travel(claim: Claim) -> None:
    assert parse_claim(claim_line(claim)) == claim
    assert b"\n" not in claim_line(claim)


def test_what_is_no_claim() -> None:
    for line in (b'{"key":"k","more":1}', b'{"key":"k","revision":5}', b'{"digest":"sha256:"}'):
        with pytest.raises(InvalidRequestError):
            parse_claim(line)
    with pytest.raises(InvalidKeyError):
        parse_claim(b'{"key":"a/.."}')
    with pytest.raises(InvalidMetadataError) as caught:
        parse_claim(b'{"key":"k","metadata":5}')
    assert caught.value.key == "k"


def test_findings_travel() -> None:
    for finding in (Finding("k", "have", "r"), Finding("k", "need_data", None)):
        assert parse_finding(finding_line(finding), key="k") == finding
    for line in (
        b"",
        b'{"key":"other","status":"have","revision":"r"}',
        b'{"key":"k","status":"has","revision":"r"}',
        b'{"key":"k","status":["have"],"revision":"r"}',
        b'{"key":"k","status":"have","revision":5}',
    ):
        with pytest.raises(TransportError):
            parse_finding(line, key="k")
