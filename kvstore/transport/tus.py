"""Large uploads that go on where they broke off, by tus 1.0 (https://tus.io/protocols/resumable-upload).

The clients on PyPI make requests with a session, retries and time-outs of their own; here these are
those of the store.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from kvstore.documents import dump_json
from kvstore.errors import (
    IntegrityError,
    InvalidRequestError,
    KeyNotFoundError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.hashing import ParallelHash
from kvstore.profiles import wire
from kvstore.streams import Source
from kvstore.transport.addresses import origin_of
from kvstore.transport.bodies import Answer, size_of_field
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request
from kvstore.transport.remembered import name_of
from kvstore.transport.tries import Tries
from kvstore.transport.upload import Upload
from kvstore.values import permissions_document
from kvstore.writes import Change, Written

#: Bytes of metadata and key that header fields carry through all servers and proxies.
_FIELD = 40_000
_VERSION = {"Tus-Resumable": wire.TUS_VERSION}
#: Another request for this upload is under way; of one that broke off the server has yet to notice.
_LOCKED = 423
_WRONG_OFFSET = 409
_GONE = (404, 410)


def is_resumable(talk: Conversation, change: Change) -> bool:
    """Tell whether the data of *change* are large, can be read again, and the server has tus."""
    source = change.data
    if source is None or source.size is None or not source.replayable:
        return False
    if source.size < talk.exchange.policy.resumable_size or not talk.has("uploads"):
        return False
    return len(_head(change)) <= _FIELD


def send_resumably(talk: Conversation, key: str, change: Change) -> Written:
    """Make *change*, sending its data by as many requests as it takes.

    Raises:
        IntegrityError: the server has stored other data.
        StoreError: it was refused, or broke off too often; what has come stays on the server, and
            is gone on with by the next call for the same file, if uploads are remembered.
    """
    assert change.data is not None  # noqa: S101 - by is_resumable
    return _Sending(talk, key, change, change.data).send()


@dataclass(slots=True)
class _State:
    """How far an upload is."""

    url: str
    offset: int
    #: What the server says of the key, once all is stored.
    stored: Mapping[str, str] | None = None


class _Sending:
    def __init__(self, talk: Conversation, key: str, change: Change, source: Source) -> None:
        self._talk = talk
        self._key = key
        self._change = change
        self._source = source
        self._size = source.size or 0
        self._name: str | None = None
        #: That of all the data, if they went in one piece.
        self._digest: str | None = None

    def send(self) -> Written:
        if self._talk.remembered is not None:
            uploads = self._talk.service.uploads
            self._name = name_of(uploads, self._key, _head(self._change), self._source)
        existed = self._exists()
        tries = self._talk.exchange.tries(is_small=False)
        state = self._gone_on() or self._created()
        while state.stored is None:
            state = self._appended(state, tries)
        self._forget()
        self._check(state.stored)
        return Written(wire.revision_of(state.stored), existed, self._change.metadata)

    # -- the steps -------------------------------------------------------------------------

    def _gone_on(self) -> _State | None:
        """Return the state of the upload that an earlier process has begun, if there is one."""
        memory = self._talk.remembered
        url = memory.find(self._name) if memory is not None and self._name is not None else None
        if url is None or origin_of(url) != origin_of(self._talk.service.uploads):
            return None
        try:
            return self._looked_up(url)
        except StoreError as error:
            if error.status not in _GONE:
                raise
            self._forget()
            return None

    def _created(self) -> _State:
        told = {"key": self._key.encode(), "value": _head(self._change)}
        fields = {
            **_VERSION,
            "Upload-Length": str(self._size),
            "Upload-Metadata": ",".join(f"{name} {_base64(data)}" for name, data in told.items()),
        }
        if self._change.condition:
            fields.update(self._talk.condition_fields(self._change.condition))
        request = Request(
            "POST",
            self._talk.service.uploads,
            key=self._key,
            headers=fields,
            body=b"",
            expect=(201,),
            repeatable=True,  # an upload that nobody goes on with expires
        )
        try:
            answer = self._talk.exchange(request)
        except KeyNotFoundError as error:  # no key is missing: the URL itself is wrong
            raise InvalidRequestError(f"There are no uploads there. {error.message}") from error
        answer.finish()
        url = urljoin(answer.url, answer.headers.get("Location", ""))
        if origin_of(url) != origin_of(answer.url) or url == answer.url:
            raise answer.refused("has no Location of the upload on this server")
        if self._talk.remembered is not None and self._name is not None:
            self._talk.remembered.keep(self._name, url, self._key)
        return _State(url, 0)

    def _appended(self, state: _State, tries: Tries) -> _State:
        """Send what is missing; where that breaks off, find out how far it came."""
        began = time.monotonic()
        tries.made += 1
        try:
            return self._sent(state)
        except StoreError as error:
            failure = error
        if not _may_go_on(failure):
            if failure.status not in (500, 507):
                self._forget()
            raise failure
        try:
            reached = self._looked_up(state.url)
        except StoreError as error:
            if error.status in _GONE:  # refused, and thrown away by the server
                self._forget()
                raise failure from error
            raise
        if reached.stored is None:
            tries.received(max(0, reached.offset - state.offset), time.monotonic() - began)
            tries.wait(failure)
        return reached

    def _sent(self, state: _State) -> _State:
        upload = Upload(self._source.behind(state.offset), hashed=not state.offset)
        headers = {
            **_VERSION,
            "Content-Type": wire.PART_TYPE,
            "Upload-Offset": str(state.offset),
        }
        answer = self._ask("PATCH", state.url, headers, (204,), upload)
        offset = _offset(answer)
        if offset < self._size:
            return _State(state.url, offset)
        self._digest = upload.digest
        return _State(state.url, offset, answer.headers)

    def _looked_up(self, url: str) -> _State:
        answer = self._ask("HEAD", url, dict(_VERSION), (200, 204))
        offset = _offset(answer)
        is_stored = offset == self._size and "ETag" in answer.headers
        return _State(url, offset, answer.headers if is_stored else None)

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        expect: tuple[int, ...],
        body: Upload | None = None,
    ) -> Answer:
        is_data = body is not None
        request = Request(
            method, url, key=self._key, headers=headers, body=body, expect=expect, streaming=is_data
        )
        answer = self._talk.exchange(request)
        answer.finish()
        return answer

    # -- before and after ------------------------------------------------------------------

    def _exists(self) -> bool:
        if self._change.condition.create_only:
            return False
        try:
            self._talk.ask("HEAD", self._key, "data")
        except KeyNotFoundError:
            return False
        return True

    def _check(self, stored: Mapping[str, str]) -> None:
        told = wire.digest_of(stored) if self._talk.verify_digests else None
        if told is None:
            return
        sent = self._digest or _digest_of(self._source)
        if told != sent:
            message = f"The server stored other data for {self._key!a} ({told}) than was sent"
            raise IntegrityError(f"{message} ({sent}).", key=self._key)

    def _forget(self) -> None:
        if self._talk.remembered is not None and self._name is not None:
            self._talk.remembered.forget(self._name)


def _may_go_on(error: StoreError) -> bool:
    if error.status in (_LOCKED, _WRONG_OFFSET):
        return True
    return isinstance(error, (TransportError, UnavailableError))


def _offset(answer: Answer) -> int:
    told = answer.headers.get("Upload-Offset")
    offset = size_of_field(told)
    if offset is None:
        raise answer.refused(f"has no Upload-Offset ({told!r:.50})")
    return offset


def _head(change: Change) -> bytes:
    document: dict[str, object] = {}
    if change.metadata is not None:
        document["metadata"] = change.metadata
    if change.permissions is not None:
        document["permissions"] = permissions_document(change.permissions)
    if change.mimetype is not None:
        document["mimetype"] = change.mimetype
    return dump_json(document)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _digest_of(source: Source) -> str:
    report, source.report = source.report, None  # all of it was told
    try:
        with ParallelHash() as digest:
            for piece in source:
                digest.update(piece)
            return f"sha256:{digest.digest().hex()}"
    finally:
        source.report = report
