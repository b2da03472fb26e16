"""Changes on their way to a service: bytes by a transfer, all else as properties."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from kvstore.errors import ConflictError, IntegrityError, KeyNotFoundError, StoreError
from kvstore.streams import Source
from kvstore.transport.upload import Upload
from kvstore.transport.vospace import permitting
from kvstore.transport.vospace.nodes import CONTAINER, Node, document_of
from kvstore.transport.vospace.properties import Told, changes, told_by
from kvstore.transport.vospace.reading import md5_in
from kvstore.transport.vospace.talk import XML, Asked, FaultError, Talk
from kvstore.transport.vospace.transfers import PUSH, endpoint
from kvstore.values import DEFAULT_MIMETYPE, Record
from kvstore.writes import Change, Condition, Written, missing

#: Data up to this many bytes travels as one piece, with its MD5 before it.
_SMALL = 1 << 18
_NO_PARENT = ("containernotfound", "nodenotfound")
_NOTHING = Told({}, {})


def send_change(talk: Talk, key: str, change: Change) -> Written:
    """Make *change* on the service: bytes first, then properties, as it has no step for both.

    Raises:
        UnsupportedOperationError: a condition that it cannot keep.
        ConflictError: the key is to be a new one and is there; or a container, or a link, stands
            where the key would be.
    """
    condition = change.condition
    talk.path(key)
    if condition.if_match is not None:
        raise talk.unsupported("if_match", key)
    before = talk.find(key)
    if before is not None and not before.is_data:
        message = f"A {before.kind} stands at {key!a:.200}, where data cannot be."
        raise missing(key) if change.needs_key else ConflictError(message, key=key)
    told = _NOTHING if before is None else told_by(before, key)
    old = None if before is None else Record(key, told.metadata, before.length or 0)
    change.check(key, old)
    metadata = change.new_metadata(old)
    changes(told, metadata)  # what cannot be said is refused before anything is changed
    if change.permissions is not None:
        assert before is not None  # noqa: S101 - they need the key
        _set_properties(talk, key, permitting.changes(talk, key, before, change))
        return Written(None, True)
    if change.data is not None:
        _send_data(talk, key, change, change.data, before)
        told = _settled(talk, key, before)
    elif before is None and not _created(talk, key, changes(told, metadata)):
        if condition.create_only:
            condition.check(key, None, exists=True)
        return send_change(talk, key, change)  # somebody has made it meanwhile
    elif before is None:
        return Written(None, False, metadata)
    _set_properties(talk, key, changes(told, metadata))
    return Written(None, before is not None, metadata)


def delete_key(talk: Talk, key: str, condition: Condition) -> None:
    """Delete *key*. A container is never deleted, as all that it holds would go with it.

    Raises:
        KeyNotFoundError: no such key.
        UnsupportedOperationError: a condition.
    """
    if condition:
        raise talk.unsupported("conditions of delete", key)
    talk.data_node(key)
    url = talk.node_url(talk.path(key))
    talk.ask("DELETE", url, Asked(key, expect=(200, 204))).finish()


class _Md5Upload(Upload):
    """A body that knows its MD5 once it was sent."""

    md5 = ""

    def __iter__(self) -> Iterator[bytes]:
        found = hashlib.md5(usedforsecurity=False)
        for piece in super().__iter__():
            found.update(piece)
            yield piece
        self.md5 = found.hexdigest()


def _send_data(talk: Talk, key: str, change: Change, source: Source, before: Node | None) -> None:
    is_ours = change.condition.create_only
    if is_ours and not _created(talk, key, {}):
        change.condition.check(key, None, exists=True)
    try:
        _push(talk, key, change, source)
    except BaseException:
        if is_ours:
            # Else what is empty would keep everybody from creating the key again.
            # What is not empty may be that of somebody who has written it since.
            with contextlib.suppress(StoreError):
                if talk.data_node(key).length == 0:
                    delete_key(talk, key, Condition())
        raise


def _push(talk: Talk, key: str, change: Change, source: Source) -> None:
    headers = {"Content-Type": change.mimetype or DEFAULT_MIMETYPE}
    body: bytes | _Md5Upload
    if source.size is not None and source.size <= _SMALL:
        body = source.whole()
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers["Digest"] = f"md5={base64.b64encode(digest).decode()}"
        sent = digest.hex()
    else:
        body, sent = _Md5Upload(source, hashed=False), ""
    asked = Asked(key, body, headers, (200, 201, 204), streaming=True)
    try:
        answer = talk.move_data("PUT", _place(talk, key), asked)
    except FaultError as fault:
        raise fault.error from None
    answer.finish()
    if isinstance(body, _Md5Upload):
        sent = body.md5
    stored = md5_in(answer)
    if stored is None and isinstance(body, _Md5Upload):  # a small one was announced
        stored = talk.data_node(key).md5
    if stored is not None and stored != sent:
        message = f"The service stored {key!a} with the MD5 {stored}, not {sent} as it was sent."
        raise IntegrityError(message, key=key)


def _place(talk: Talk, key: str) -> str:
    """Return the URL to send the bytes to; containers for the key are made if there are none."""
    try:
        return endpoint(talk, key, PUSH)
    except FaultError as fault:
        if fault.name not in _NO_PARENT:
            raise
    _make_parents(talk, key)
    try:
        return endpoint(talk, key, PUSH)
    except FaultError as fault:
        raise _in_the_way(fault, key) from None


def _settled(talk: Talk, key: str, before: Node | None) -> Told:
    """Return what the node has now, with its permissions as they were.

    By the standard a transfer clears the properties of a node (section 3.6.2); not all services
    do it, and who may read a key is not what its data say.
    """
    if before is None:
        return _NOTHING
    now = talk.data_node(key)
    lost = permitting.lost(before, now)
    if lost:
        _set_properties(talk, key, lost)
    return told_by(now, key)


def _created(talk: Talk, key: str, properties: Mapping[str, str | None]) -> bool:
    """Make an empty node, and containers for it; False if there is one already."""
    path = talk.path(key)
    body = document_of(talk.uri(path), properties)
    asked = Asked(key, body, {"Content-Type": XML}, (200, 201))
    for is_last in (False, True):
        try:
            talk.try_to("PUT", talk.node_url(path), asked).finish()
            return True
        except FaultError as fault:
            if fault.name == "duplicatenode":
                return False
            if is_last or fault.name not in _NO_PARENT:
                raise _in_the_way(fault, key) from None
        _make_parents(talk, key)
    return False


def _make_parents(talk: Talk, key: str) -> None:
    """Make the containers above *key* that are missing, the outermost first."""
    path = talk.path(key)
    names = path.split("/")[:-1]
    missing_ones = []
    while names:
        missing_ones.append("/".join(names))
        if _is_there(talk, key, missing_ones[-1]):
            missing_ones.pop()
            break
        names.pop()
    for parent in reversed(missing_ones):
        body = document_of(talk.uri(parent), {}, kind=CONTAINER)
        asked = Asked(key, body, {"Content-Type": XML}, (200, 201))
        try:
            talk.try_to("PUT", talk.node_url(parent), asked).finish()
        except FaultError as fault:
            if fault.name != "duplicatenode":  # made by somebody else meanwhile
                raise fault.error from None


def _in_the_way(fault: FaultError, key: str) -> StoreError:
    if fault.name not in _NO_PARENT:
        return fault.error
    message = f"A part of {key!a:.200} before its last slash is a node that is no container."
    return ConflictError(message, key=key)


def _is_there(talk: Talk, key: str, path: str) -> bool:
    url = f"{talk.node_url(path)}?detail=min&limit=0"
    try:
        talk.ask("GET", url, Asked(key)).finish()
    except KeyNotFoundError:
        return False
    return True


def _set_properties(talk: Talk, key: str, properties: Mapping[str, Any]) -> None:
    if not properties:
        return
    path = talk.path(key)
    body = document_of(talk.uri(path), properties)
    # Twice is as once: it says what is to be, not what is to be added.
    asked = Asked(key, body, {"Content-Type": XML}, (200, 204), repeatable=True)
    try:
        talk.try_to("POST", talk.node_url(path), asked).finish()
    except FaultError as fault:
        raise fault.error from None
