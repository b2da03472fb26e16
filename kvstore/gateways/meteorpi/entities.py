"""What an exporter sends: events, files and the status of a camera, and the keys they are under.

The documents are those of the MeteorPi packages 0.1.5 (``Event``, ``FileRecord``, ``CameraStatus``
of ``meteorpi_model``). What they say is the metadata of a key, in the one field ``meteorpi``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from kvstore.documents import JsonObject, parse_object
from kvstore.errors import InvalidRequestError, TooLargeError
from kvstore.gateways.meteorpi import fields
from kvstore.values import Record

#: The field of metadata that has what this protocol says of a key.
FIELD = "meteorpi"
#: Files of one event. Each is looked for in each of the two requests that each of them takes.
MAX_FILES = 1000

_EVENT = {"camera_id": "string", "event_type": "string"}
_FILE = {
    "camera_id": "string",
    "semantic_type": "string",
    "mime_type": "string",
    "file_name": "string",
    "file_size": "number",
}
_STATUS = {
    "lens": "string",
    "sensor": "string",
    "inst_url": "string",
    "inst_name": "string",
    "software_version": "number",
    "location": "object",
    "orientation": "object",
    "regions": "array",
}


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: what is known of it, without its data."""

    id: str
    #: Of its data, 32 hexadecimal digits.
    md5: str
    #: Id of the status of its camera at that time.
    status_id: str
    #: What is in its metadata.
    facts: JsonObject

    @property
    def key(self) -> str:
        """Where it is stored."""
        return file_key(self.id)

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The files without which it is not complete: itself."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was seen, with the files that show it."""

    id: str
    status_id: str
    files: tuple[FileRecord, ...]
    facts: JsonObject

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"meteorpi/events/{self.id}"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a camera was, and where it looked, for some time."""

    id: str
    facts: JsonObject

    @property
    def key(self) -> str:
        """Where it is stored."""
        return status_key(self.id)


@dataclass(frozen=True, slots=True)
class Again:
    """An entity that was sent before, named by its id alone."""

    id: str


#: What is imported step by step.
Entity: TypeAlias = Event | FileRecord
Message: TypeAlias = Entity | Status | Again


def file_key(file_id: str) -> str:
    """The key of a file."""
    return f"meteorpi/files/{file_id}"


def status_key(status_id: str) -> str:
    """The key of the status of a camera."""
    return f"meteorpi/statuses/{status_id}"


def facts_of(record: Record) -> JsonObject:
    """What this protocol has said of a key; nothing, if others made it."""
    facts = record.metadata.get(FIELD)
    return facts if isinstance(facts, dict) else {}


def parse_message(body: bytes) -> Message:
    """Return what the body of a request says.

    Raises:
        InvalidRequestError: it is no JSON, of no known type, or lacks what it needs.
        TooLargeError: an event of more files than one may have.
    """
    document = parse_object(body, what="message")
    kind = document.get("type")
    if kind == "cached_entity":
        return Again(fields.hex_of(document, "cached_entity_id"))
    if kind not in ("event", "file", "status"):
        names = "event, file, status or cached_entity"
        raise InvalidRequestError(f"A message is of type {names}, not {kind!r:.100}.")
    inner = document.get(kind)
    if not isinstance(inner, dict):
        raise InvalidRequestError(f"{kind} is a JSON object, not {inner!r:.100}.")
    if kind == "event":
        return _event(inner)
    return _file(inner) if kind == "file" else _status(inner)


def _event(document: JsonObject) -> Event:
    listed = fields.objects_of(document, "files")
    if len(listed) > MAX_FILES:
        raise TooLargeError(f"An event has at most {MAX_FILES} files, not {len(listed)}.")
    files = tuple(map(_file, listed))
    status_id = fields.hex_of(document, "status_id")
    facts = {
        "type": "event",
        **fields.optional(document, _EVENT),
        **_times(document, "event_time"),
        "status": status_key(status_id),
        "files": [file.key for file in files],
        **fields.meta_of(document),
    }
    return Event(fields.hex_of(document, "event_id"), status_id, files, facts)


def _file(document: JsonObject) -> FileRecord:
    status_id, md5 = fields.hex_of(document, "status_id"), fields.hex_of(document, "md5")
    known = fields.optional(document, _FILE)
    if "file_name" in known:
        fields.check_file_name(known["file_name"])
    facts = {
        "type": "file",
        **known,
        **_times(document, "file_time"),
        "md5": md5,
        "status": status_key(status_id),
        **fields.meta_of(document),
    }
    return FileRecord(fields.hex_of(document, "file_id"), md5, status_id, facts)


def _status(document: JsonObject) -> Status:
    known = fields.optional(document, _STATUS)
    times = {
        name: fields.time_of(document, name)
        for name in ("valid_from", "valid_to")
        if document.get(name) is not None
    }
    camera = {"camera_id": fields.text_of(document, "camera_id")}
    facts: dict[str, Any] = {"type": "status", **camera, **times, **known}
    return Status(fields.hex_of(document, "status_id"), facts)


def _times(document: JsonObject, name: str) -> JsonObject:
    milliseconds = fields.time_of(document, name)
    return {name: milliseconds, "time": fields.iso(milliseconds)}
