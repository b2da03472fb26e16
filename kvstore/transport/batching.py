"""Small changes that travel together: one request, which the server does whole or not at all."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from itertools import islice
from typing import Any

from kvstore.documents import JsonObject, dump_json, parse_object
from kvstore.errors import InvalidRequestError, TransportError
from kvstore.hashing import sha256
from kvstore.profiles import wire
from kvstore.transport.bodies import Answer
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request
from kvstore.values import permissions_document
from kvstore.writes import Change, Written

#: Bytes of data of a change that travels with others. They grow by a third on their way, and are
#: held in memory here and there.
SMALL = 1 << 16
#: What one request has at most, where the server does not announce less.
_MOST = 500
_MOST_BYTES = 4 << 20
#: Bytes of the longest operation: metadata may have 1 MiB.
_LARGEST = 3 << 19
_PIECE = 1 << 16


def fits_batch(change: Change) -> bool:
    """Tell whether a change may travel with others."""
    source = change.data
    return source is None or (source.size is not None and source.size <= SMALL)


class Batch:
    """Changes that are gathered, and then sent by one request.

    It is sent again after a failure only if that is as once: no condition, nothing that is merged.

    Args:
        limits: what the server announces.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._most = min(_MOST, limits.get("batch", _MOST))
        # One that is as large as it can be is added before the batch is known to be full.
        self._most_bytes = min(_MOST_BYTES, limits.get("batch_bytes", _MOST_BYTES) - _LARGEST)
        self.changes: list[tuple[str, Change]] = []
        self._lines: list[bytes] = []
        self._size = 0
        self._repeatable = True

    @property
    def is_full(self) -> bool:
        """Whether the next change belongs to another one."""
        return len(self._lines) >= self._most or self._size >= self._most_bytes

    def add(self, key: str, change: Change) -> None:
        """Take in a change; its data is read now."""
        line = dump_json(_operation(key, change)) + b"\n"
        self.changes.append((key, change))
        self._lines.append(line)
        self._size += len(line)
        self._repeatable &= not (change.merge or change.condition)

    def send(self, talk: Conversation) -> list[Written]:
        """Have the server make all these changes, and return what came of each, in their order.

        Raises:
            StoreError: of the first change that the server refused; none was made.
        """
        answer = talk.exchange(
            Request(
                "POST",
                talk.service.batch,
                headers={"Content-Type": wire.RECORDS_TYPE, "Accept": wire.RECORDS_TYPE},
                body=b"".join(self._lines),
                streaming=True,
                repeatable=self._repeatable,
            )
        )
        pieces = iter(lambda: answer.read1(_PIECE), b"")
        lines = list(islice(wire.lines_of(pieces, limit=_PIECE), len(self.changes) + 1))
        answer.finish()
        if len(lines) != len(self.changes):
            raise answer.refused(f"has {len(lines)} results for {len(self.changes)} operations")
        return [
            _written(answer, line, key, change)
            for line, (key, change) in zip(lines, self.changes, strict=True)
        ]


def _operation(key: str, change: Change) -> JsonObject:
    operation: JsonObject = {"op": _name_of(change), "key": key}
    if change.data is not None:
        data = change.data.whole()
        operation["data"] = b64encode(data).decode("ascii")
        operation["digest"] = sha256(data)
        if change.mimetype is not None:
            operation["mimetype"] = change.mimetype
    if change.metadata is not None:
        operation["metadata"] = change.metadata
    if change.permissions is not None:
        operation["permissions"] = permissions_document(change.permissions)
    if change.condition.if_match is not None:
        operation["if_match"] = change.condition.if_match
    if change.condition.create_only:
        operation["if_none_match"] = "*"
    return operation


def _name_of(change: Change) -> str:
    if change.data is not None:
        return "set_data" if change.metadata is None else "set"
    verb = "update" if change.merge else "set"
    return f"{verb}_{'metadata' if change.metadata is not None else 'permissions'}"


def _written(answer: Answer, line: bytes, key: str, change: Change) -> Written:
    try:
        result: dict[str, Any] = parse_object(line, what="result of an operation")
    except InvalidRequestError as error:
        raise TransportError(f"The server sent no result for {key!a}: {error.message}") from error
    status, revision = result.get("status"), result.get("revision")
    if result.get("key") != key or status not in (200, 201, 204):
        raise answer.refused(f"has the result {line!r:.100} for the key {key!a:.100}")
    metadata = None if change.merge else change.metadata
    return Written(revision if isinstance(revision, str) else None, status != 201, metadata)
