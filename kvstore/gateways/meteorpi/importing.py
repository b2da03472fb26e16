"""What is answered to an entity: what it lacks still, or that it is complete.

event or file -> complete         it is here, now or since long
              -> need_status      the exporter sends the status, then names the entity again
              -> need_file_data   it uploads the data, then names the entity again
              -> failed           something was asked for too often
entity by id  -> as the entity, or continue-nocache: send all of it again
status        -> continue
"""

from __future__ import annotations

import contextlib

from kvstore.documents import JsonObject
from kvstore.errors import ConflictError, TooLargeError
from kvstore.gateways.meteorpi.arrivals import arrival_of
from kvstore.gateways.meteorpi.entities import (
    FIELD,
    Again,
    Entity,
    Event,
    FileRecord,
    Status,
    parse_message,
    status_key,
)
from kvstore.gateways.meteorpi.pending import Need, Pending
from kvstore.server.site import Site
from kvstore.values import Record
from kvstore.writes import Change, Condition

#: How often a step is tried again that others came between.
_TRIES = 5
_NEW = Condition(create_only=True)


def import_message(site: Site, body: bytes) -> JsonObject:
    """Do what a message asks for, as far as that is possible now, and return the answer.

    Whatever was done before, by this process or another, is found and not done again.

    Raises:
        InvalidRequestError: it is no message that an exporter sends.
        TooLargeError: it has more files, or a larger one, than are taken.
        ConflictError: others came between too often.
        Refusal: 409, other data are where a file belongs.
    """
    message = parse_message(body)
    if isinstance(message, Status):
        return _keep_status(site, message)
    for tries_left in reversed(range(_TRIES)):
        try:
            if isinstance(message, Again):
                pending = Pending.kept(site, message.id)
            else:
                pending = Pending.of(site, message, body)
            return {"state": "continue-nocache"} if pending is None else _advance(site, pending)
        except ConflictError:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _keep_status(site: Site, status: Status) -> JsonObject:
    # The same id is the same status: what is here already stays.
    with contextlib.suppress(ConflictError):
        site.writer.write(status.key, Change(metadata={FIELD: status.facts}, condition=_NEW))
    return {"state": "continue"}


def _advance(site: Site, pending: Pending) -> JsonObject:
    entity = pending.entity
    if _is_complete(site, entity):
        pending.forget(site)
        return {"state": "complete"}
    for status_id in dict.fromkeys(one.status_id for one in (entity, *entity.files)):
        if site.find(status_key(status_id)) is None:
            return pending.ask(site, Need("need_status", "status_id", status_id))
    received: dict[str, tuple[FileRecord, Record]] = {}
    for file in pending.files():
        record = site.find(file.key)
        arrival = arrival_of(site, record, file.md5)
        if record is None or arrival == "missing":
            _check_size(site, file)
            return pending.ask(site, Need("need_file_data", "file_id", file.id))
        if arrival == "received":
            received[file.id] = (file, record)
    with site.writer.transaction("import"):
        for file, record in received.values():
            _describe(site, file, record)
        if isinstance(entity, Event):
            site.writer.write(entity.key, Change(metadata={FIELD: entity.facts}, condition=_NEW))
        pending.forget(site)
    return {"state": "complete"}


def _is_complete(site: Site, entity: Entity) -> bool:
    record = site.find(entity.key)
    if isinstance(entity, Event):
        return record is not None
    return arrival_of(site, record, entity.md5) == "described"


def _describe(site: Site, file: FileRecord, record: Record) -> None:
    facts = file.facts if record.digest is None else {**file.facts, "digest": record.digest}
    change = Change(metadata={FIELD: facts}, merge=True, condition=Condition(record.revision))
    site.writer.write(file.key, change)


def _check_size(site: Site, file: FileRecord) -> None:
    size = file.facts.get("file_size", 0)
    if size > site.limits.data:
        raise TooLargeError(
            f"The data of a key has at most {site.limits.data} bytes, not {size}.", key=file.key
        )
