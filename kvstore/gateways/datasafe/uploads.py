"""Datasets on their way in: a number is reserved, an archive is received, looked at and stored."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import tempfile
from collections.abc import Callable, Iterable
from typing import IO, BinaryIO, cast

from kvstore.errors import ConflictError, StorageFullError
from kvstore.gateways.datasafe.answers import text_reply
from kvstore.gateways.datasafe.archives import Archive
from kvstore.gateways.datasafe.contents import Contents
from kvstore.gateways.datasafe.datasets import Dataset, find_dataset
from kvstore.gateways.datasafe.deposits import Deposit, check_state
from kvstore.gateways.datasafe.directory import wrong
from kvstore.gateways.datasafe.lois import Loi
from kvstore.gateways.datasafe.minting import mint
from kvstore.manifest import FILE_NAME, MAX_BYTES, Manifest
from kvstore.server.answers import (
    NO_STORE,
    Refusal,
    Reply,
    json_reply,
)
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import guard_write
from kvstore.server.handlers.receiving import check_upload, verified
from kvstore.server.site import Site
from kvstore.writes import Change

#: Bytes of an upload that are kept in memory; the rest is in a temporary file.
_SPOOL = 1 << 20


async def reserve(site: Site, family: Loi) -> Reply:
    """Answer POST: 201 with the identifier of a dataset that has no files yet."""
    loi = await site.workers.run(mint, site, family)
    return text_reply(201, str(loi))


async def upload(site: Site, exchange: Exchange, loi: Loi, *, replace: bool) -> Reply:
    """Answer PUT and PATCH: 200, 422 where the manifest does not fit, 400, 405.

    What can be refused without the body is refused before it comes.
    """
    digests = check_upload(exchange, site.limits.data)
    judge = functools.partial(_judge_write, site, exchange)
    await site.workers.run(functools.partial(_demand, site, loi, judge, replace=replace))
    body = exchange.body
    loop = asyncio.get_running_loop()

    def store() -> Reply:
        with (
            contextlib.closing(body.pieces(loop)) as pieces,
            tempfile.SpooledTemporaryFile(_SPOOL) as spool,
        ):
            _spool(cast(Iterable[bytes], verified(pieces, digests, str(loi))), spool)
            if not spool.tell():
                raise Refusal(400, "No content provided to deposit.")
            contents = _contents(site, cast(BinaryIO, spool))
            verification = Deposit(site, loi, contents, replace=replace, judge=judge).run()
        # Not the 200 of the original: it kept the data, and who does not look would lose them here.
        status = 200 if verification else 422
        return json_reply(verification.to_document(), [NO_STORE], status=status)

    return await site.workers.run_long(store)


def _spool(pieces: Iterable[bytes], spool: IO[bytes]) -> None:
    for piece in pieces:
        try:
            spool.write(piece)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageFullError("There is no room for uploads at the moment.") from error


def _demand(site: Site, loi: Loi, judge: Callable[[Dataset], object], *, replace: bool) -> None:
    found = find_dataset(site, loi)
    check_state(found, mine=None, replace=replace)
    judge(found)
    _ = site.writer
    site.demand_change(str(loi), Change(metadata={}))


def _judge_write(site: Site, exchange: Exchange, found: Dataset) -> None:
    try:
        guard_write(site, exchange, str(found.loi), found.as_record())
    except ConflictError as error:
        # Not one for which a dataset is looked at anew.
        raise Refusal(412, error.message) from None


def _contents(site: Site, file: BinaryIO) -> Contents:
    archive = Archive(file, most=site.limits.data)
    if FILE_NAME not in archive.members:
        raise wrong(f"it has no {FILE_NAME}")
    if archive.members[FILE_NAME].size > MAX_BYTES:
        raise wrong(f"its {FILE_NAME} is larger than {MAX_BYTES} bytes")
    return Contents(archive, Manifest.from_yaml(b"".join(archive.pieces(FILE_NAME))))
