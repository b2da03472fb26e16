"""The batch URL: operations, one a line, of which all are done or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kvstore.documents import JsonObject, dump_json
from kvstore.errors import TooLargeError
from kvstore.profiles import wire
from kvstore.server.answers import NO_STORE, SAFE, Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.operations import Operation, parse_operation
from kvstore.server.handlers.receiving import check_upload, verified
from kvstore.server.site import Site
from kvstore.store import Store


async def post_batch(site: Site, exchange: Exchange) -> Reply:
    """Answer POST: 200 and a result a line, or the problem of the first operation that fails."""
    store = site.writer
    check = check_upload(exchange, site.limits.batch_bytes)

    def work(body: bytes) -> Reply:
        verified(body, check, None)
        lines = []
        with store.transaction("batch"):
            for number, operation in enumerate(_parsed(site, exchange, body)):
                with _located(exchange, number, operation.key):
                    lines.append(dump_json(_do(store, operation)) + b"\n")
        answer = b"".join(lines)
        kind = (b"content-type", wire.RECORDS_TYPE.encode())
        return Reply(200, [kind, *SAFE, NO_STORE, length_field(len(answer))], answer)

    return await site.workers.run_long(work, await exchange.body.gather())


def _parsed(site: Site, exchange: Exchange, body: bytes) -> list[Operation]:
    # All of them before the first is done: what is malformed costs no transaction.
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    limit = site.limits.batch
    if len(lines) > limit:
        raise TooLargeError(f"A batch has at most {limit} operations, not {len(lines)}.")
    operations = []
    for number, line in enumerate(lines):
        with _located(exchange, number, None):
            operations.append(
                parse_operation(site, line, lambda key: exchange.members.update(key=key))
            )
    return operations


def _do(store: Store, operation: Operation) -> JsonObject:
    key, change = operation.key, operation.change
    if change is None:
        store.delete(key, if_match=operation.condition.if_match)
        return {"key": key, "status": 204, "revision": None}
    written = store.write(key, change)
    status = 204 if written.existed else 201
    return {"key": key, "status": status, "revision": written.revision}


@contextlib.contextmanager
def _located(exchange: Exchange, number: int, key: str | None) -> Iterator[None]:
    """Let a problem document tell which operation failed, and of which key."""
    exchange.members = {"line": number} if key is None else {"line": number, "key": key}
    yield
    exchange.members = {}  # what fails behind the last one, such as the commit, is nobody's fault
