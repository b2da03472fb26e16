"""Changes on their way to a server: which request carries one, and what came of it.

A condition makes a write safe to be sent again, but what it says then need not be what happened: it
fails by the first try, if the answer to that was lost. So it is looked up whether the server has
just what was sent. (Somebody else who wrote the very same meanwhile cannot be told from that.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from kvstore.documents import dump_json
from kvstore.errors import IntegrityError, KeyNotFoundError, UnsupportedOperationError
from kvstore.hashing import sha256
from kvstore.profiles import wire
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.digests import field_of_digest
from kvstore.profiles.service import VALUE_PART
from kvstore.streams import Source
from kvstore.transport.bodies import Answer
from kvstore.transport.conversation import Conversation
from kvstore.transport.reading import read_record
from kvstore.transport.tus import is_resumable, send_resumably
from kvstore.transport.upload import Upload
from kvstore.values import DEFAULT_MIMETYPE, permissions_document
from kvstore.writes import Change, Condition, Written

#: Data up to this many bytes travels as one piece with what stands before it.
_SMALL = 1 << 18
_STORED = (200, 201, 204)
_JSON = {"Content-Type": "application/json"}


def send_change(talk: Conversation, key: str, change: Change) -> Written:
    """Make *change* on the server, in one request where it has the means for it."""
    if change.data is None:
        return _send_documents(talk, key, change)
    if is_resumable(talk, change):
        return send_resumably(talk, key, change)
    if change.metadata is None and change.permissions is None:
        return _put_data(talk, key, change, change.data)
    if talk.has("value"):
        return _put_value(talk, key, change, change.data)
    if change.condition:
        talk.condition_fields(change.condition)  # raises unless the server honours conditions
        message = "Data and metadata take two requests here, and a condition holds for one."
        raise UnsupportedOperationError(message, key=key)
    written = _put_data(talk, key, change, change.data)
    _put_document(talk, "PUT", key, "metadata", replace(change, condition=Condition()))
    return Written(None, written.existed, change.metadata)


def delete_key(talk: Conversation, key: str, condition: Condition) -> None:
    """Delete *key* on the server."""

    def confirm() -> Mapping[str, str] | None:
        try:
            talk.ask("HEAD", key, "data")
        except KeyNotFoundError:
            return {}
        return None

    answer = talk.ask("DELETE", key, None, expect=(200, 204), condition=condition, confirm=confirm)
    answer.finish()


def _send_documents(talk: Conversation, key: str, change: Change) -> Written:
    method = "POST" if change.merge else "PUT"
    part = "metadata" if change.permissions is None else "permissions"
    answer = _put_document(talk, method, key, part, change)
    told = None if change.merge else change.metadata
    return _written(answer, told)


def _put_document(talk: Conversation, method: str, key: str, part: str, change: Change) -> Answer:
    if part == "metadata":
        body = dump_json(change.metadata)
    else:
        body = dump_json(permissions_document(change.permissions or {}))
    answer = talk.ask(
        method,
        key,
        part,
        headers={**_JSON, **content_digest(talk, body)},
        body=body,
        expect=_STORED,
        condition=change.condition,
        # What is added may have been there before, so that to find it says nothing.
        confirm=None if change.merge else _looking_up(talk, key, change, lambda: None),
    )
    answer.finish()
    return answer


def _put_data(talk: Conversation, key: str, change: Change, source: Source) -> Written:
    headers = {"Content-Type": change.mimetype or DEFAULT_MIMETYPE}
    data, digest = _at_hand(talk, source)
    if digest is not None:
        headers["Repr-Digest"] = field_of_digest(digest)
    body: bytes | Upload
    body = _upload(talk, source, b"", digest) if data is None else data
    answer = talk.ask(
        "PUT",
        key,
        "data",
        headers=headers,
        body=body,
        expect=_STORED,
        condition=change.condition,
        confirm=_looking_up(talk, key, change, lambda: _digest_of(digest, body)),
    )
    return _stored(talk, key, answer, _digest_sent(digest, body), change)


def _put_value(talk: Conversation, key: str, change: Change, source: Source) -> Written:
    document: dict[str, object] = {"metadata": change.metadata}
    if change.permissions is not None:
        document["permissions"] = permissions_document(change.permissions)
    if change.mimetype is not None:
        document["mimetype"] = change.mimetype
    data, digest = _at_hand(talk, source)
    if digest is not None:
        document["digest"] = digest
    head = dump_json(document) + b"\n"
    body: bytes | Upload
    body = _upload(talk, source, head, digest) if data is None else head + data
    answer = talk.ask(
        "PUT",
        key,
        VALUE_PART,
        headers={"Content-Type": wire.VALUE_TYPE, **content_digest(talk, body)},
        body=body,
        expect=_STORED,
        condition=change.condition,
        confirm=_looking_up(talk, key, change, lambda: _digest_of(digest, body)),
    )
    return _stored(talk, key, answer, _digest_sent(digest, body), change)


def _looking_up(
    talk: Conversation, key: str, change: Change, digest: Callable[[], str | None]
) -> Callable[[], Mapping[str, str] | None]:
    """Return the function that tells whether the server has *change*: see `Request.confirm`."""

    def confirm() -> Mapping[str, str] | None:
        record = read_record(talk, key)
        if record.revision is None or record.revision == change.condition.if_match:
            return None
        if change.data is not None and (record.digest is None or record.digest != digest()):
            return None
        if change.metadata is not None and _text(record.metadata) != _text(change.metadata):
            return None
        if change.permissions is not None:
            permissions = permissions_document(change.permissions)
            if talk.document(key, "permissions") != permissions:
                return None
        return {"ETag": format_etag(record.revision)}

    return confirm


def _text(metadata: object) -> str:
    # Python takes True for 1, which JSON does not.
    return json.dumps(metadata, sort_keys=True)


def _digest_of(digest: str | None, body: bytes | Upload) -> str | None:
    """Return the digest of the data, which is read once more if the last try did not get far."""
    if digest is None and isinstance(body, Upload) and body.replayable and not body.ended:
        for _ in body:
            pass
    return _digest_sent(digest, body)


def _at_hand(talk: Conversation, source: Source) -> tuple[bytes | None, str | None]:
    """Return the data if it is small, and the digest if it can be told before it is sent."""
    data = source.in_memory
    if source.size is not None and source.size <= _SMALL:
        small = data = source.whole()
    else:
        small = None
    return small, sha256(data) if data is not None and talk.has("digest") else None


def content_digest(talk: Conversation, body: bytes | Upload) -> dict[str, str]:
    """Return the field by which a server knows a body that was changed on its way."""
    if not talk.has("digest") or not isinstance(body, bytes):
        return {}
    return {"Content-Digest": field_of_digest(sha256(body))}


def _upload(talk: Conversation, source: Source, head: bytes, digest: str | None) -> Upload:
    return Upload(source, head, hashed=digest is None and _compares(talk))


def _compares(talk: Conversation) -> bool:
    return talk.verify_digests and talk.has("digest")


def _digest_sent(digest: str | None, body: bytes | Upload) -> str | None:
    return body.digest if digest is None and isinstance(body, Upload) else digest


def _stored(
    talk: Conversation, key: str, answer: Answer, sent: str | None, change: Change
) -> Written:
    answer.finish()
    # What was announced with its digest was checked before it was stored, or should have been; of
    # a stream it is known only now. Here the wrong bytes are stored, but not taken for right.
    stored = wire.digest_of(answer.headers) if _compares(talk) else None
    if stored is not None and sent != stored:
        message = f"The server stored other data for {key!a} ({stored}) than was sent ({sent})."
        raise IntegrityError(message, key=key)
    return _written(answer, change.metadata)


def _written(answer: Answer, metadata: dict[str, object] | None) -> Written:
    return Written(wire.revision_of(answer.headers), answer.status != 201, metadata)
