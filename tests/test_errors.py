"""The error tree: what is caught as what, what errors say, and that they cross process borders."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

from kvstore import errors
from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ChangesLostError,
    ConflictError,
    DamagedError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    RangeError,
    StorageError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)
from tests.cases import each

BASES: dict[type[StoreError], tuple[type[BaseException], ...]] = {
    KeyNotFoundError: (StoreError, KeyError),
    InvalidKeyError: (StoreError, ValueError),
    InvalidMetadataError: (StoreError, ValueError),
    InvalidPermissionsError: (StoreError, ValueError),
    InvalidRequestError: (StoreError, ValueError),
    RangeError: (StoreError, ValueError),
    TooLargeError: (StoreError, ValueError),
    AuthorizationError: (StoreError, PermissionError),
    AuthenticationError: (AuthorizationError,),
    ConflictError: (StoreError,),
    ChangesLostError: (StoreError,),
    IntegrityError: (StoreError,),
    UnsupportedOperationError: (StoreError, NotImplementedError),
    NotConnectedError: (StoreError, RuntimeError),
    StorageFullError: (StoreError, OSError),
    StorageError: (StoreError, OSError),
    DamagedError: (StorageError,),
    TransportError: (StoreError, ConnectionError),
    UnavailableError: (TransportError,),
}

CLASSES = sorted(
    (cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, StoreError)),
    key=lambda cls: cls.__name__,
)

#: What some classes take beside the context that all take.
OWN: dict[type[StoreError], dict[str, Any]] = {
    InvalidMetadataError: {"pointer": "/a~1b/0"},
    RangeError: {"size": 7},
    ChangesLostError: {"oldest": 12},
    TransportError: {"attempts": 4},
    UnavailableError: {"attempts": 4, "retry_after": 2.5},
}
CONTEXT: dict[str, Any] = {"key": "a/ü", "store": "<MemoryStore of 0 keys>", "status": 418}

DUPLICATES = [
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
    *(
        pytest.param(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)),
            id=f"pickle-{protocol}",
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
]


@each("cls", BASES, ids=lambda cls: cls.__name__)
def test_each_error_is_the_builtin_that_callers_expect(cls: type[StoreError]) -> None:
    assert cls.__bases__ == BASES[cls]


def test_every_error_is_listed_here() -> None:
    assert {StoreError, *BASES} == set(CLASSES)


def test_no_error_is_another_builtin_by_accident() -> None:
    # ValueError and KeyError handlers of callers must not swallow what is none of theirs.
    for cls in (ConflictError, ChangesLostError, IntegrityError, StoreError):
        assert not issubclass(cls, (ValueError, LookupError, OSError, RuntimeError))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__.partition("::")[2])
    builtins = {"KeyError", "ValueError", "PermissionError", "NotImplementedError"}
    builtins |= {"RuntimeError", "OSError", "ConnectionError"}
    assert {name for name in drawn if name not in builtins} == {cls.__name__ for cls in CLASSES}


@each("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_shows_its_sentence(cls: type[StoreError]) -> None:
    # KeyError would show quotes around it, OSError None.
    error = cls("There is no key 'a'.")
    assert str(error) == error.message == "There is no key 'a'."
    assert error.args == ("There is no key 'a'.",)
    assert repr(error) == f"{cls.__name__}(\"There is no key 'a'.\")"


@each("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_context_is_none_unless_given(cls: type[StoreError]) -> None:
    error = cls("m")
    assert (error.key, error.store, error.status) == (None, None, None)


@each("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_context_is_keyword_only(cls: type[StoreError]) -> None:
    with pytest.raises(TypeError):
        cls("m", "key")  # type: ignore[misc]


@each("duplicate", DUPLICATES)
@each("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_keeps_everything_across_a_process_border(cls: type[StoreError], duplicate: Any) -> None:
    given = {**CONTEXT, **OWN.get(cls, {})}
    error = cls("It broke.", **given)
    error.add_note("while testing")

    twin = duplicate(error)

    assert type(twin) is cls
    assert twin is not error
    assert (str(twin), twin.args) == ("It broke.", ("It broke.",))
    assert {name: getattr(twin, name) for name in given} == given
    assert twin.__notes__ == ["while testing"]


class _TwoArgumentsError(StoreError):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}.", key="k")
        self.second = second


@each("duplicate", DUPLICATES)
def test_a_subclass_with_its_own_arguments_crosses_too(duplicate: Any) -> None:
    twin = duplicate(_TwoArgumentsError(1, 2))
    assert type(twin) is _TwoArgumentsError
    assert (str(twin), twin.key, twin.second) == ("1 is not 2.", "k", 2)


def test_what_each_error_tells_beside_its_context() -> None:
    assert InvalidMetadataError("m").pointer == ""
    assert InvalidMetadataError("m", pointer="/a").pointer == "/a"
    assert RangeError("m").size is None
    assert RangeError("m", size=3).size == 3
    assert TransportError("m").attempts == 1
    assert TransportError("m", attempts=4).attempts == 4
    assert ChangesLostError("m").oldest is None
    assert ChangesLostError("m", oldest=3).oldest == 3
    assert UnavailableError("m").retry_after is None
    assert UnavailableError("m", retry_after=1.5, attempts=2).retry_after == 1.5


def test_is_caught_as_the_builtin() -> None:
    with pytest.raises(KeyError, match=r"^There is no key 'a'\.$"):
        raise KeyNotFoundError("There is no key 'a'.")
    with pytest.raises(OSError, match="full") as caught:
        raise StorageFullError("The disk is full.")
    assert caught.value.errno is None
