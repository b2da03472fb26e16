"""The JSON file beside each data file of a folder: all that is known of a key but its data."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, NoReturn

from kvstore.documents import JsonObject
from kvstore.errors import StorageError
from kvstore.values import OWNED, Permissions, Record, permissions_document

#: Names one write: two hexadecimal digits of its lock, then 16 at random.
TOKEN = re.compile(r"[0-9a-f]{18}")

_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "metadata": (dict,),
    "size": (int,),
    "created": _NUMBER,
    "modified": _NUMBER,
    "mimetype": (str,),
    "revision": (str,),
    "digest": (str, type(None)),
    "permissions": (dict,),
    "stage": (str, type(None)),
    "mtime_ns": (int,),
}
_fields = itemgetter(*_TYPES)
#: What nearly every sidecar has.
_USUAL = (str, dict, int, float, float, str, str, str, dict, str, int)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What one sidecar says."""

    record: Record
    #: The write that brought the data; its staged file, as long as there is one, is the data.
    #: None where another tool has written the data file.
    stage: str | None
    #: Modification time of the data file when it was written, in nanoseconds.
    mtime_ns: int

    def describes(self, status: os.stat_result) -> bool:
        """Tell whether a data file of this status is as it was written."""
        return status.st_mtime_ns == self.mtime_ns and status.st_size == self.record.size

    def edited(self, status: os.stat_result) -> Sidecar:
        """Return what holds after another tool has changed the data file to this status.

        The revision is another one, so that conditions notice; nobody knows the digest.
        """
        record = replace(
            self.record,
            size=status.st_size,
            modified=status.st_mtime,
            digest=None,
            revision=f"{self.record.revision}~{status.st_mtime_ns}.{status.st_size}",
        )
        return Sidecar(record, None, status.st_mtime_ns)


# json.dumps(indent=1) would run in Python and take longer than all the rest of a small write.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


def dump(sidecar: Sidecar) -> bytes:
    """Return the JSON text of *sidecar*, a line for each field and each field of the metadata."""
    record = sidecar.record
    lines = [f"\n  {encode_basestring(n)}: {_text(v)}" for n, v in record.metadata.items()]
    metadata = f"{{{','.join(lines)}\n }}" if lines else "{}"
    permissions = _encode(permissions_document(record.permissions or {}))
    return f"""{{
 "key": {encode_basestring(record.key)},
 "metadata": {metadata},
 "size": {record.size},
 "created": {_text(record.created)},
 "modified": {_text(record.modified)},
 "mimetype": {encode_basestring(record.mimetype)},
 "revision": {_text(record.revision)},
 "digest": {_text(record.digest)},
 "permissions": {permissions},
 "stage": {_text(sidecar.stage)},
 "mtime_ns": {sidecar.mtime_ns}
}}
""".encode()


def parse(raw: bytes, *, name: str) -> Sidecar:
    """Return what the JSON text *raw* of the file *name* says.

    Raises:
        StorageError: it is damaged, naming the file and what is wrong.
    """
    try:
        text = raw.decode()
        document = _decode(text)
        values = _fields(document)
        if "\\u" in text:  # JSON can spell lone surrogates, which no file and no answer can hold
            _encode(document).encode()
    except KeyError as error:
        raise _damaged(name, f"Its field {error.args[0]!r} is missing.") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(name, f"It is no JSON object: {error}.") from None
    if tuple(map(type, values)) != _USUAL:
        _check_types(document, name)
    key, metadata, size, created, modified, mimetype, revision, digest = values[:8]
    permissions, stage, mtime_ns = values[8:]
    if size < 0 or not revision:
        raise _damaged(name, "Its size is negative or its revision empty.")
    if stage is not None and not TOKEN.fullmatch(stage):
        raise _damaged(name, f"Its field 'stage' is no name of a write: {stage!a:.60}.")
    granted = _permissions(permissions, name)
    record = Record(key, metadata, size, created, modified, mimetype, revision, digest, granted)
    return Sidecar(record, stage, mtime_ns)


def _text(value: Any) -> str:
    # Each call of an encoder sets up another one inside: too much for one word or number.
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    return repr(value) if kind is float or kind is int else _encode(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Not kvstore.documents.parse_json, whose hooks double the time of a get: this is our own text, and
# who edits it by hand and, say, gives a name twice has the last one count.
_decode = json.JSONDecoder(parse_constant=_refuse).decode


def _check_types(document: JsonObject, name: str) -> None:
    for field, types in _TYPES.items():
        if type(document[field]) not in types:  # not isinstance: True would be an int
            kind = type(document[field]).__name__
            raise _damaged(name, f"Its field {field!r} is of type {kind}.")


def _permissions(document: JsonObject, name: str) -> Permissions:
    permissions = {}
    for permission, tags in document.items():
        if type(tags) is not list or not all(type(tag) is str for tag in tags):
            raise _damaged(name, f"Its permission {permission!a:.60} is no list of text.")
        permissions[permission] = set(tags)
    if not permissions.get(OWNED):
        raise _damaged(name, "Its permissions name no owner.")
    return permissions


def _damaged(name: str, why: str) -> StorageError:
    return StorageError(f"The sidecar {name!a:.300} is damaged. {why}")
