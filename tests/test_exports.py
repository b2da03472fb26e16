"""The public names: a change here is a change for every user."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import kvstore
from kvstore.values import PUBLIC
from tests.cases import each

NAMES = [
    "AuthenticationError",
    "AuthorizationError",
    "AuthorizedStore",
    "AuthorizingStore",
    "BearerAuth",
    "BytesOpener",
    "Change",
    "ChangesLostError",
    "Condition",
    "ConflictError",
    "DamagedError",
    "Data",
    "DynamicURLStore",
    "Event",
    "EventHub",
    "Field",
    "FileSystemStore",
    "Filter",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidMetadataError",
    "InvalidPermissionsError",
    "InvalidRequestError",
    "JoinedStore",
    "JournalEntry",
    "KeyNotFoundError",
    "MemoryStore",
    "MountedStore",
    "NotConnectedError",
    "PUBLIC",
    "Permissions",
    "Policy",
    "Profile",
    "Progress",
    "Query",
    "RangeError",
    "ReadOnly",
    "ReadOnlyStore",
    "Record",
    "SQLiteStore",
    "Source",
    "StorageError",
    "StorageFullError",
    "Store",
    "StoreDeleteEvent",
    "StoreError",
    "StoreEvent",
    "StoreKeyEvent",
    "StoreModificationEvent",
    "StoreProgressEndEvent",
    "StoreProgressEvent",
    "StoreProgressStartEvent",
    "StoreProgressStepEvent",
    "StoreResynchronizedEvent",
    "StoreSetEvent",
    "StoreTransactionEndEvent",
    "StoreTransactionEvent",
    "StoreTransactionStartEvent",
    "StoreUpdateEvent",
    "TooLargeError",
    "TransportError",
    "UnavailableError",
    "UnsupportedOperationError",
    "Value",
    "Watch",
    "Written",
    "__version__",
    "check_key",
    "field",
    "missing",
    "open",
]
#: Names of types and constants, which have no docstring of their own.
PLAIN = {"Data", "PUBLIC", "Permissions", "__version__"}


def test_the_list_is_sorted() -> None:
    assert sorted(NAMES) == NAMES


def test_public_names() -> None:
    assert sorted(kvstore.__all__) == NAMES
    assert len(set(kvstore.__all__)) == len(kvstore.__all__)


def test_nothing_else_is_in_sight() -> None:
    # Submodules become attributes when anything imports them; the rest is private.
    visible = {
        name
        for name, member in vars(kvstore).items()
        if not name.startswith("_") and not isinstance(member, ModuleType)
    }
    assert visible == set(NAMES) - {"__version__"}


def test_star_import_gives_these_names() -> None:
    names: dict[str, Any] = {}
    exec("from kvstore import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == NAMES


@each("name", sorted(set(NAMES) - PLAIN))
def test_every_export_says_what_it_is(name: str) -> None:
    member = getattr(kvstore, name)
    own = vars(member).get("__doc__") if inspect.isclass(member) else member.__doc__
    assert own
    first = inspect.cleandoc(own).splitlines()[0]
    assert first.strip()
    if inspect.isclass(member):
        # What dataclasses write themselves is only the signature.
        assert not own.startswith(f"{name}(")


def interface(name: str) -> list[tuple[str, Any]]:
    cls = getattr(kvstore, name)
    return [
        (attribute, member)
        for attribute, member in vars(cls).items()
        if not attribute.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))
    ]


@each("name", [n for n in NAMES if inspect.isclass(getattr(kvstore, n))])
def test_every_public_method_says_what_it_does(name: str) -> None:
    cls = getattr(kvstore, name)
    silent = [
        attribute for attribute, _ in interface(name) if not inspect.getdoc(getattr(cls, attribute))
    ]
    assert silent == []


def test_classes_know_where_they_come_from() -> None:
    for name in NAMES:
        member = getattr(kvstore, name)
        if inspect.isclass(member):
            assert member.__name__ == name
            assert member.__module__.startswith("kvstore.")


def test_constants() -> None:
    assert kvstore.PUBLIC == PUBLIC == "public"
    assert kvstore.__version__.count(".") == 2


def test_the_package_is_typed() -> None:
    assert (Path(kvstore.__file__).parent / "py.typed").is_file()


def test_the_example_in_the_docstring() -> None:
    results = doctest.testmod(kvstore)
    assert results.failed == 0
    assert results.attempted >= 2
