"""The operations of a batch: what each line says, checked before any of them is done."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvstore.documents import JsonObject, check_metadata, dump_json, json_type, parse_object
from kvstore.errors import InvalidMetadataError, InvalidRequestError, TooLargeError
from kvstore.keys import check_key
from kvstore.profiles.digests import DigestCheck, field_of_digest
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Permissions, check_mimetype, check_permissions
from kvstore.writes import Change, Condition

_CHANGED = ("permissions", "if_match")
_WRITTEN = (*_CHANGED, "if_none_match")
_DATA = ("data", "mimetype", "digest")
#: What each operation needs, and what it may have beside ``op`` and ``key``.
_OPERATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "set": (("data",), (*_DATA, "metadata", *_WRITTEN)),
    "set_data": (("data",), (*_DATA, *_WRITTEN)),
    "set_metadata": (("metadata",), ("metadata", *_WRITTEN)),
    "update_metadata": (("metadata",), ("metadata", *_CHANGED)),
    "set_permissions": (("permissions",), _CHANGED),
    "update_permissions": (("permissions",), _CHANGED),
    "delete": ((), ("if_match",)),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one key."""

    key: str
    #: What is written; None: the key is deleted.
    change: Change | None
    condition: Condition


def parse_operation(site: Site, line: bytes, tell_key: Callable[[str], object]) -> Operation:
    """Return the operation that *line* says.

    Args:
        tell_key: called with the key, as soon as that is known.

    Raises:
        InvalidRequestError, InvalidKeyError, InvalidMetadataError, InvalidPermissionsError:
            what is malformed, missing or of no use to the operation.
        IntegrityError: its data have another digest.
        TooLargeError: its metadata or its data are over a limit.
        UnsupportedOperationError: the store has no permissions.
    """
    document = parse_object(line, what="operation")
    name = document.get("op")
    if not isinstance(name, str) or name not in _OPERATIONS:
        message = f"An operation is one of {', '.join(_OPERATIONS)}, not {name!r:.100}."
        raise InvalidRequestError(message)
    key = document.get("key")
    if not isinstance(key, str):
        raise InvalidRequestError(f"The key of {name!r} is a string, not {key!r:.100}.")
    tell_key(check_key(key))
    needed, allowed = _OPERATIONS[name]
    unknown = document.keys() - {"op", "key", *allowed}
    if unknown:
        raise InvalidRequestError(f"The operation {name!r} has no use for {min(unknown)!r:.100}.")
    for member in needed:
        if document.get(member) is None:
            raise InvalidRequestError(f"The operation {name!r} needs the member {member!r}.")
    condition = Condition.of(document.get("if_match"), document.get("if_none_match"))
    if name == "delete":
        return Operation(key, None, condition)
    change = Change(
        data=_data(site, document, key),
        metadata=_metadata(site, document, key, default={} if name == "set" else None),
        permissions=_permissions(site, document, is_complete=not name.startswith("update")),
        mimetype=check_mimetype(_text(document, "mimetype")),
        merge=name.startswith("update"),
        condition=condition,
    )
    return Operation(key, change, condition)


def _data(site: Site, document: JsonObject, key: str) -> Source | None:
    text, digest = _text(document, "data"), _text(document, "digest")
    if text is None:
        return None
    try:
        data = b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        message = f"The data of an operation is base64 (RFC 4648 section 4), not {text!r:.50}."
        raise InvalidRequestError(message, key=key) from None
    if len(data) > site.limits.data:
        raise TooLargeError(f"The data of a key has at most {site.limits.data} bytes.", key=key)
    if digest is not None:
        check = DigestCheck([field_of_digest(digest)])
        check.update(data)
        check.verify(key=key)
    return Source(data)


def _metadata(
    site: Site, document: JsonObject, key: str, default: JsonObject | None
) -> JsonObject | None:
    metadata = document.get("metadata")
    if metadata is None:
        return default
    if not isinstance(metadata, dict):
        message = f"The metadata is a JSON {json_type(metadata)}, not an object."
        raise InvalidMetadataError(message, key=key)
    checked = check_metadata(metadata)
    limit = site.limits.metadata
    if len(dump_json(checked)) > limit:
        raise TooLargeError(f"Metadata has at most {limit} bytes of JSON text.", key=key)
    return checked


def _permissions(site: Site, document: JsonObject, *, is_complete: bool) -> Permissions | None:
    permissions: Any = document.get("permissions")
    if permissions is None:
        return None
    _ = site.authorizer
    return check_permissions(permissions, complete=is_complete)


def _text(document: JsonObject, name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"The {name} of an operation is a string, not {value!r:.100}.")
    return value
