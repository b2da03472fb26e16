"""Answers made of lines whose number nobody knows before: on disk, if they are many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any, cast

from kvstore.server.answers import NO_STORE, SAFE, Field, Reply, length_field
from kvstore.server.bodies import PIECE

#: Bytes of an answer that are kept in memory until its header can be told.
_SPOOL = 1 << 20

#: The answer depends on what the client accepts.
VARY: Field = (b"vary", b"accept")


def spooled(fields: list[Field], lines: Iterable[bytes]) -> Reply:
    """An answer whose lines are kept on disk, if they are many, until their size is known."""
    spool = tempfile.SpooledTemporaryFile(_SPOOL)  # noqa: SIM115 - closed after it was sent
    try:
        for line in lines:
            spool.write(line)
        size = spool.tell()
        spool.seek(0)
        body = spool.read(PIECE)
    except BaseException:
        spool.close()
        raise
    fields = [*fields, *SAFE, NO_STORE, VARY, length_field(size)]
    if len(body) == size:
        spool.close()
        return Reply(200, fields, body)
    return Reply(200, fields, body, cast(Any, spool), size - len(body))
