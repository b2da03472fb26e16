from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore import errors
from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    RangeError,
    StorageError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.profiles.problems import error_of, problem_of
from tests.cases import each


def all_types(base: type[StoreError] = StoreError) -> Iterator[type[StoreError]]:
    yield base
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            yield from all_types(error)


ATTRIBUTES: dict[type[StoreError], dict[str, Any]] = {
    InvalidMetadataError: {"pointer": "/a/0/b\nc"},
    RangeError: {"size": 17},
    UnavailableError: {"retry_after": 2.5},
}


@each("error_type", list(all_types()))
def test_every_error_survives_the_trip(error_type: type[StoreError]) -> None:
    extra = ATTRIBUTES.get(error_type, {})
    sent = error_type("A sentence about 'a/ž'.", key="a/ž", store="Store('/srv')", **extra)
    status, document = problem_of(sent)
    assert document["status"] == status
    assert document["type"] == f"urn:kvstore:error:{document['type'].rpartition(':')[2]}"  # type: ignore[attr-defined]
    assert "/srv" not in json.dumps(document)
    received = error_of(status, json.loads(json.dumps(document)), key=None, context="GET u")
    assert type(received) is error_type
    assert received.key == "a/ž"
    assert received.status == status
    assert received.store is None
    for name, value in extra.items():
        assert getattr(received, name) == value
    if status < 500 or status == 501:
        assert str(received) == f"A sentence about 'a/ž' (GET u: HTTP {status})."
    else:
        assert "detail" not in document
        assert str(received) == f"{document['title']} (GET u: HTTP {status})."


def test_names_and_types_are_one_to_one() -> None:
    names = {problem_of(error("x"))[1]["type"] for error in all_types()}
    assert len(names) == len(list(all_types()))
    assert "urn:kvstore:error:key-not-found" in names


@each(
    "error, status",
    [
        (KeyNotFoundError("x"), 404),
        (InvalidKeyError("x"), 400),
        (InvalidMetadataError("x"), 400),
        (InvalidMetadataError("x", status=422), 422),
        (InvalidMetadataError("x", status=500), 400),
        (InvalidRequestError("x"), 400),
        (RangeError("x"), 416),
        (TooLargeError("x"), 413),
        (TooLargeError("x", status=431), 431),
        (AuthorizationError("x"), 403),
        (AuthenticationError("x"), 401),
        (ConflictError("x"), 412),
        (ConflictError("x", status=409), 409),
        (IntegrityError("x"), 400),
        (IntegrityError("x", status=500), 500),
        (UnsupportedOperationError("x"), 501),
        (UnsupportedOperationError("x", status=405), 405),
        (StorageFullError("x"), 507),
        (StorageError("x"), 500),
        (TransportError("x"), 502),
        (UnavailableError("x"), 503),
        (UnavailableError("x", status=429), 429),
        (StoreError("x"), 500),
    ],
)
def test_status_of_an_error(error: StoreError, status: int) -> None:
    sent, document = problem_of(error)
    assert sent == status
    assert type(error_of(status, document, key=None, context="GET u")) is type(error)


def test_a_problem_document() -> None:
    error = InvalidMetadataError("It is not 'tall'.", key="k", pointer="/size", status=422)
    assert problem_of(error) == (
        422,
        {
            "type": "urn:kvstore:error:invalid-metadata",
            "title": "The metadata break a rule",
            "status": 422,
            "detail": "It is not 'tall'.",
            "key": "k",
            "pointer": "/size",
        },
    )


@pytest.mark.parametrize("error", [ValueError("/etc/passwd"), KeyError("k"), OSError("x")])
def test_a_foreign_exception_tells_nothing(error: Exception) -> None:
    assert problem_of(error) == (
        500,
        {"type": "about:blank", "title": "Internal Server Error", "status": 500},
    )


@pytest.mark.parametrize(
    "error",
    [
        StorageError("/srv/x"),
        StorageFullError("/srv/x"),
        TransportError("/srv/x"),
        StoreError("/srv/x"),
    ],
)
def test_a_server_error_tells_no_details(error: StoreError) -> None:
    assert "/srv" not in json.dumps(problem_of(error)[1])


def test_a_subclass_travels_as_its_base() -> None:
    class OddKeyError(InvalidKeyError):
        pass

    status, document = problem_of(OddKeyError("x"))
    assert (status, document["type"]) == (400, "urn:kvstore:error:invalid-key")


def test_a_document_is_always_valid_json() -> None:
    error = UnavailableError("a\ud800", key="k\ud800", retry_after=float("inf"))
    text = json.dumps(problem_of(error)[1], allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode())["key"] == "k\\ud800"
    detail = problem_of(InvalidMetadataError("a\ud800\n", pointer="/\ud800"))[1]
    assert detail["detail"] == "a\\ud800\\n"
    assert detail["pointer"] == "/\\ud800"


BY_STATUS: list[tuple[int, type[StoreError]]] = [
    (400, InvalidRequestError),
    (401, AuthenticationError),
    (402, InvalidRequestError),
    (403, AuthorizationError),
    (404, KeyNotFoundError),
    (405, UnsupportedOperationError),
    (408, InvalidRequestError),
    (409, ConflictError),
    (412, ConflictError),
    (413, TooLargeError),
    (414, TooLargeError),
    (416, RangeError),
    (418, InvalidRequestError),
    (422, InvalidMetadataError),
    (429, UnavailableError),
    (431, TooLargeError),
    (500, TransportError),
    (501, UnsupportedOperationError),
    (502, TransportError),
    (503, UnavailableError),
    (504, TransportError),
    (507, StorageFullError),
    (599, TransportError),
    (101, TransportError),
    (204, TransportError),
    (302, TransportError),
    (999, TransportError),
]


@each("status, error_type", BY_STATUS)
@each(
    "document",
    [
        None,
        {},
        {"type": "about:blank", "title": 5, "detail": ["x"]},
        {"type": "urn:kvstore:error:from-the-future"},
        {"type": "urn:kvstore:error:integrity", "status": 999},
        {"type": ["urn:kvstore:error:integrity"]},
    ],
)
def test_the_status_alone_decides(
    status: int, error_type: type[StoreError], document: dict[str, object] | None
) -> None:
    error = error_of(status, document, key="k", context="PUT u")
    assert type(error) is error_type
    assert error.key == "k"
    assert error.status == status
    assert f"(PUT u: HTTP {status})." in str(error)


@each("status, claimed", [(404, None), (500, 400), (403, 400), (400, 404), (200, None)])
def test_a_type_that_disagrees_with_the_status_is_ignored(status: int, claimed: int | None) -> None:
    document: dict[str, object] = {"type": "urn:kvstore:error:invalid-key", "detail": "Odd."}
    if claimed is not None:
        document["status"] = claimed
    error = error_of(status, document, key=None, context="GET u")
    assert not isinstance(error, InvalidKeyError)
    assert str(error) == f"Odd (GET u: HTTP {status})."


def test_texts_of_others_are_cut_and_made_visible() -> None:
    document = {"detail": "\x1b[2J\r\n\u202e\u2028\ud800" + "x" * 10_000}
    message = str(error_of(400, document, key=None, context="GET u"))
    assert message.startswith("\\x1b[2J\\r\\n\\u202e\\u2028\\ud800xxx")
    assert message.endswith("x… (GET u: HTTP 400).")
    assert len(message) == 500 + len(" (GET u: HTTP 400).")
    exact = str(error_of(400, {"detail": "y" * 500}, key=None, context="GET u"))
    assert exact == "y" * 500 + " (GET u: HTTP 400)."
    over = str(error_of(400, {"detail": "y" * 501}, key=None, context="GET u"))
    assert over == "y" * 499 + "… (GET u: HTTP 400)."


def test_the_title_stands_in_for_the_detail() -> None:
    assert (
        str(error_of(400, {"title": "Odd"}, key=None, context="GET u")) == "Odd (GET u: HTTP 400)."
    )
    assert str(error_of(404, None, key=None, context="GET u")) == "Not Found (GET u: HTTP 404)."


def test_the_key_asked_for_wins() -> None:
    document: dict[str, object] = {"type": "urn:kvstore:error:key-not-found", "key": "theirs"}
    assert error_of(404, document, key="mine", context="").key == "mine"
    assert error_of(404, document, key=None, context="").key == "theirs"


@each("key", [5, None, "", "é" * 513, ["k"]])
def test_an_odd_key_is_left_out(key: object) -> None:
    assert error_of(404, {"key": key}, key=None, context="").key is None


@each(
    "told, header, seconds",
    [
        (3, None, 3.0),
        (2.5, None, 2.5),
        (3, 7.0, 7.0),
        (None, 7.0, 7.0),
        (0, None, 0.0),
        (-1, None, None),
        (True, None, None),
        ("3", None, None),
        (float("nan"), None, None),
        (float("inf"), None, None),
        (10**400, None, None),
    ],
)
def test_retry_after(told: object, header: float | None, seconds: float | None) -> None:
    error = error_of(503, {"retry_after": told}, key=None, retry_after=header, context="")
    assert isinstance(error, UnavailableError)
    assert error.retry_after == seconds


@each("told, size", [(0, 0), (9, 9), (-1, None), (True, None), ("9", None), (1.0, None)])
def test_size(told: object, size: int | None) -> None:
    error = error_of(416, {"size": told}, key=None, context="")
    assert isinstance(error, RangeError)
    assert error.size == size


@each(
    "told, pointer",
    [("/a/b", "/a/b"), (None, ""), (5, ""), ("/a/" + "b" * 600, "/a"), ("b" * 600, "")],
)
def test_pointer(told: object, pointer: str) -> None:
    error = error_of(422, {"pointer": told}, key=None, context="")
    assert isinstance(error, InvalidMetadataError)
    assert error.pointer == pointer
