"""Entities whose import is not complete, kept in the store: any process may get the next request.

An exporter sends an entity once and names it by its id from then on. It looks at no answer but that
to the entity, and comes again for as long as something is asked for: who asks must count.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError, KeyNotFoundError, TooLargeError
from kvstore.gateways.meteorpi.entities import (
    FIELD,
    Entity,
    Event,
    FileRecord,
    facts_of,
    parse_message,
)
from kvstore.hashing import sha256
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Record
from kvstore.writes import Change, Condition

#: How often one thing is asked for before the import of the entity has failed.
ASKED = 5

_MIMETYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Need:
    """What an entity lacks."""

    #: ``need_status`` or ``need_file_data``.
    state: str
    #: The member that names it in the answer.
    member: str
    id: str

    def answer(self) -> JsonObject:
        """What the exporter is told."""
        return {"state": self.state, self.member: self.id}


@dataclass(frozen=True, slots=True)
class Pending:
    """An entity, and what is kept of it."""

    entity: Entity
    #: The message that it came in.
    body: bytes
    #: What is in the store; None: nothing yet.
    record: Record | None

    @classmethod
    def of(cls, site: Site, entity: Entity, body: bytes) -> Pending:
        """Return an entity that has come as a whole."""
        return cls(entity, body, site.find(pending_key(entity.id)))

    @classmethod
    def kept(cls, site: Site, entity_id: str) -> Pending | None:
        """Return the entity of that id, None if it is not kept (any more)."""
        try:
            value = site.store.get(pending_key(entity_id))
        except KeyNotFoundError:
            return None
        with value as stream:
            # Whoever may write to the key may have put there anything.
            body = stream.read(site.limits.metadata + 1)
        try:
            entity = parse_message(body)
        except (InvalidRequestError, TooLargeError):
            return None
        if not isinstance(entity, Event | FileRecord) or entity.id != entity_id:
            return None
        return cls(entity, body, value.record)

    def files(self) -> tuple[FileRecord, ...]:
        """The files of the entity, beginning with the one that was asked for last.

        Those before it had come by then, so that an event of many files takes no look at each of
        them in each of its requests.
        """
        files = self.entity.files
        last = None if self.record is None else facts_of(self.record).get("needs")
        start = next((at for at, file in enumerate(files) if file.id == last), 0)
        return (*files[start:], *files[:start])

    def ask(self, site: Site, need: Need) -> JsonObject:
        """Note that *need* is asked for, and return the answer that asks, or says that it failed.

        The count begins anew after a failure, as exporters try again half an hour later.

        Raises:
            ConflictError: another request came between.
        """
        before = {} if self.record is None else facts_of(self.record)
        is_same = before.get("needs") == need.id and isinstance(before.get("asked"), int)
        asked = before["asked"] + 1 if is_same else 1
        if asked <= ASKED:
            self._keep(site, {"state": need.state, "needs": need.id, "asked": asked})
            return need.answer()
        message = f"{need.id} was asked for {ASKED} times ({need.state}) and has not arrived."
        self._keep(site, {"state": "failed", "needs": need.id, "asked": 0, "message": message})
        return {"state": "failed", "message": message}

    def forget(self, site: Site) -> None:
        """Keep it no longer."""
        if self.record is not None:
            with contextlib.suppress(KeyNotFoundError):
                site.writer.delete(self.record.key)

    def _keep(self, site: Site, facts: JsonObject) -> None:
        record = self.record
        is_new = record is None or record.digest != sha256(self.body)
        revision = None if record is None else record.revision
        kind = "event" if isinstance(self.entity, Event) else "file"
        change = Change(
            data=Source(self.body) if is_new else None,
            mimetype=_MIMETYPE if is_new else None,
            metadata={FIELD: {"type": "pending", "of": kind, **facts}},
            condition=Condition(revision, create_only=record is None),
        )
        site.writer.write(pending_key(self.entity.id), change)


def pending_key(entity_id: str) -> str:
    """The key of what is kept of an entity."""
    return f"meteorpi/pending/{entity_id}"
