"""Datasets on their way out: as an archive that is made while it is sent."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import BinaryIO, cast

from kvstore.errors import ConflictError, KeyNotFoundError
from kvstore.gateways.datasafe.datasets import Dataset, find_dataset
from kvstore.gateways.datasafe.lois import Loi
from kvstore.gateways.datasafe.packing import Entry, PieceReader, packed, packed_size
from kvstore.server.answers import (
    NO_STORE,
    Refusal,
    Reply,
    key_fields,
    length_field,
    type_fields,
)
from kvstore.server.bodies import PIECE
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import judge_read
from kvstore.server.handlers.reading import not_modified
from kvstore.server.site import Site
from kvstore.values import Record

#: How often a dataset is looked at anew that is replaced before the first byte of it is sent.
_TRIES = 5


async def download(site: Site, exchange: Exchange, loi: Loi) -> Reply:
    """Answer GET and HEAD: 200 with a ZIP archive, 204 where there are no files yet, 404."""
    return await site.workers.run(_pack, site, exchange, loi)


def _pack(site: Site, exchange: Exchange, loi: Loi) -> Reply:
    for tries_left in reversed(range(_TRIES)):
        try:
            return _packed(site, exchange, loi)
        except (ConflictError, KeyNotFoundError):
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _packed(site: Site, exchange: Exchange, loi: Loi) -> Reply:
    found = find_dataset(site, loi)
    if not found.exists:
        raise Refusal(404, "LOI does not exist.")
    whole = found.as_record()
    if whole is None:
        return Reply(204, [NO_STORE])
    found.check_whole()
    if _judge_read(exchange, whole):
        return not_modified(whole)
    entries = [
        Entry(
            found.name_of(record),
            record.size,
            record.modified,
            functools.partial(_pieces, site, record),
        )
        for record in _unpackable(found)
    ]
    size = packed_size(entries)
    fields = [*type_fields("application/zip"), *key_fields(whole), length_field(size)]
    if exchange.is_head:
        return Reply(200, fields)
    stream = cast(BinaryIO, PieceReader(packed(entries)))
    body = stream.read(PIECE)
    if len(body) == size:
        stream.close()
        return Reply(200, fields, body)
    return Reply(200, fields, body, stream, size - len(body))


def _unpackable(found: Dataset) -> Iterator[Record]:
    """Yield its files but those below another file, for which no folder can be made."""
    files: set[str] = set()
    for record in found.members:
        name = found.name_of(record)
        places = (at for at, letter in enumerate(name) if letter == "/")
        if files.isdisjoint(name[:at] for at in places):
            files.add(name)
            yield record


def _judge_read(exchange: Exchange, whole: Record) -> bool:
    try:
        return judge_read(exchange, whole)
    except ConflictError as error:
        raise Refusal(412, error.message) from None


def _pieces(site: Site, record: Record) -> Iterator[bytes]:
    """Yield the data of a key as it was when the archive was begun.

    Raises:
        ConflictError: it was changed since; a size that was told cannot be taken back.
    """
    with contextlib.closing(site.store.get(record.key)) as value:
        if value.revision != record.revision:
            message = f"The key {record.key!a} was changed while it was being sent."
            raise ConflictError(message, key=record.key, status=409)
        yield from value.iterdata(PIECE)
