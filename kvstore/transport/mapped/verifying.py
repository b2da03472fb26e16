"""Whether a server did what it says that it did."""

from __future__ import annotations

from kvstore.profiles.operations import Check
from kvstore.profiles.statuses import error_for
from kvstore.transport.mapped.metadata import exists
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.talk import Talk


def verify(talk: Talk, reply: Reply) -> None:
    """Check that the server did what it says, as far as its answer or the key shows.

    Raises:
        ConflictError: it ignored the write; or another error, as the profile says.
    """
    try:
        for check in reply.operation.verify:
            _verify(talk, reply, check)
    except BaseException:
        reply.answer.close()
        raise


def _verify(talk: Talk, reply: Reply, check: Check) -> None:
    key = reply.key
    if check.gone:
        holds = key is None or not exists(talk, key)
    else:
        assert check.fact is not None  # noqa: S101 - by how checks are made
        told = check.fact.read(reply.find)
        wanted = check.equals if check.sent is None else reply.sent.get(check.sent)
        if check.sent is not None and isinstance(told, int) and wanted is not None:
            wanted = int(wanted)  # times are sent in whole seconds
        holds = told == wanted and isinstance(told, bool) is isinstance(wanted, bool)
    if not holds:
        where = "" if key is None else f" (key {key!a})"
        message = f"{check.message.removesuffix('.')}{where}."
        raise error_for(check.means, message, key=key, status=reply.answer.status)
