"""The versions of a key on a server: which there are, what they held, and back to one of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from kvstore.documents import dump_json
from kvstore.profiles import wire
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.service import VERSIONS_PART
from kvstore.transport.bodies import Answer, BrokenOffError
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request
from kvstore.transport.reading import RemoteOpener, read_value
from kvstore.transport.writing import content_digest
from kvstore.values import Opener, Record
from kvstore.writes import Condition, Written, missing_version

_PIECE = 1 << 16
#: Bytes of a line: a record has metadata, which a server may have grown.
_LINE = 1 << 22


def list_versions(talk: Conversation, key: str) -> list[Record]:
    """Return the records of the versions of *key*, the newest first; none of what never was."""
    tries = talk.exchange.tries(is_small=False)
    while True:
        headers = {"Accept": wire.RECORDS_TYPE}
        answer = talk.ask("GET", key, VERSIONS_PART, headers=headers, streaming=True, tries=tries)
        try:
            return _records(answer, key)
        except BrokenOffError as error:
            tries.wait(error)


def read_version(talk: Conversation, key: str, version: str) -> tuple[Record, Opener]:
    """Return record and data of *key* as they were at the revision *version*.

    Raises:
        KeyNotFoundError: that is not kept.
    """
    there = talk.at_version(version)
    if talk.has("value"):
        return read_value(there, key)
    for record in list_versions(talk, key):
        if record.revision == version:
            return record, RemoteOpener(there, record)
    raise missing_version(key, version)


def restore_version(talk: Conversation, key: str, version: str, condition: Condition) -> Written:
    """Set *key* back to *version* in one request, which the server does as one step.

    It may be sent again: twice gives the same data and metadata, as of a PUT.

    Raises:
        KeyNotFoundError: the version is not kept.
        ConflictError: the condition does not hold.
    """

    def confirm() -> Mapping[str, str] | None:
        records = list_versions(talk, key)
        wanted = [record for record in records if record.revision == version]
        if not wanted or records[0].revision in (None, version, condition.if_match):
            return None
        if _content(records[0]) != _content(wanted[0]):
            return None
        return {"ETag": format_etag(str(records[0].revision))}

    body = dump_json({"restore": version})
    fields = {"Content-Type": "application/json", **content_digest(talk, body)}
    if condition:
        fields.update(talk.condition_fields(condition))
    answer = talk.exchange(
        Request(
            "POST",
            talk.url(key, VERSIONS_PART),
            key=key,
            headers=fields,
            body=body,
            expect=(201, 204),
            conditional=bool(condition),
            repeatable=True,
            confirm=confirm if condition else None,
        )
    )
    answer.finish()
    return Written(wire.revision_of(answer.headers), answer.status != 201)


def _records(answer: Answer, key: str) -> list[Record]:
    with contextlib.closing(answer):
        lines = wire.lines_of(iter(lambda: answer.read1(_PIECE), b""), limit=_LINE)
        return [wire.parse_record(line, key=key) for line in lines]


def _content(record: Record) -> tuple[object, ...]:
    # Metadata as text: Python takes True for 1, which JSON does not.
    metadata = json.dumps(record.metadata, sort_keys=True)
    return record.size, record.digest, record.mimetype, metadata
