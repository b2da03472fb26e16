"""Uploads that go on where they broke off: tus 1.0 over HTTP, and at the end one write."""

from __future__ import annotations

from kvstore.errors import InvalidKeyError, InvalidRequestError, StoreError
from kvstore.keys import check_key
from kvstore.profiles.conditions import format_http_date
from kvstore.profiles.digests import DigestCheck
from kvstore.profiles.problems import problem_of
from kvstore.server.answers import NO_STORE, Field, Refusal, Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import Guard, guard_write
from kvstore.server.handlers.receiving import check_upload, stored_reply
from kvstore.server.handlers.value import Head, parse_head
from kvstore.server.resumable import tus
from kvstore.server.resumable.holding import Hold
from kvstore.server.resumable.partial import Partial, Plan
from kvstore.server.resumable.partials import unknown_upload
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import check_mimetype
from kvstore.writes import Change, Condition

#: Fields of the answer to a write that are told of an upload when it is complete.
_TOLD = (b"etag", b"repr-digest")


def begin_tus(exchange: Exchange) -> None:
    """Do what the protocol wants of every request to its URLs, before its method is looked at."""
    exchange.fields.append(tus.RESUMABLE)
    override = exchange.single(b"x-http-method-override")
    if override in ("PATCH", "DELETE") and exchange.method == "POST":
        exchange.method = override


async def options_uploads(site: Site, exchange: Exchange) -> Reply:
    """Answer OPTIONS: what of the protocol there is."""
    allow = (b"allow", b"POST, OPTIONS")
    return Reply(204, [allow, *exchange.fields, *tus.options_fields(site.partials.most)])


async def post_upload(site: Site, exchange: Exchange) -> Reply:
    """Answer POST: 201 and the URL of the upload that is begun, with the first bytes if it has any.

    It is stored at once if these are all.
    """
    tus.check_version(exchange)
    if not exchange.body.complete:
        tus.check_type(exchange)
    checks = tus.checks_of(exchange)
    plan = await site.workers.run(_plan, site, exchange)
    async with site.holds.begun(plan) as hold:
        partial = hold.partial
        url = f"{site.paths.uploads.rpartition('/')[2]}/{partial.name}"
        exchange.fields.append((b"location", url.encode()))
        try:
            await _receive(site, exchange, hold, checks)
        except (Refusal, StoreError):
            await _drop(site, exchange, partial)
            raise
        if partial.offset == plan.length:
            await _store(site, exchange, partial)
    return Reply(201, [*exchange.fields, *_facts(partial), length_field(0)])


async def head_upload(site: Site, exchange: Exchange, name: str) -> Reply:
    """Answer HEAD: how much is there, and when it is complete what was stored."""
    tus.check_version(exchange)
    await _check_owner(site, name)
    partial = await site.holds.seen(name)
    fields = [*exchange.fields, *_facts(partial), NO_STORE]
    fields.append((b"upload-length", b"%d" % partial.plan.length))
    fields.append((b"upload-metadata", partial.plan.metadata.encode("latin-1")))
    return Reply(200, [*fields, length_field(0)])


async def patch_upload(site: Site, exchange: Exchange, name: str) -> Reply:
    """Answer PATCH: 204 when the bytes are there, and with the last ones when all is stored."""
    tus.check_version(exchange)
    tus.check_type(exchange)
    offset = tus.number_of(exchange, b"upload-offset")
    checks = tus.checks_of(exchange)
    await _check_owner(site, name)
    async with site.holds.held(name) as hold:
        partial = hold.partial
        if offset != partial.offset:
            exchange.fields += _facts(partial)
            message = f"The upload has {partial.offset} bytes; it does not go on at {offset}."
            raise Refusal(409, message)
        await _receive(site, exchange, hold, checks)
        if partial.offset == partial.plan.length and not partial.is_stored:
            await _store(site, exchange, partial)
    return Reply(204, [*exchange.fields, *_facts(partial)])


async def delete_upload(site: Site, exchange: Exchange, name: str) -> Reply:
    """Answer DELETE: 204; the bytes are gone. A value that was stored stays."""
    tus.check_version(exchange)
    await _check_owner(site, name)
    async with site.holds.held(name) as hold:
        await site.workers.run(site.partials.remove, hold.partial)
    return Reply(204, [*exchange.fields])


async def _check_owner(site: Site, name: str) -> None:
    """Refuse the upload of somebody else, in the words of one that is not there."""
    if site.caller is not None:
        partial, _ = await site.workers.run(site.partials.find, name)
        if partial.plan.owner != site.caller.tag:
            raise unknown_upload()


def _facts(partial: Partial) -> list[Field]:
    told = partial.told or {}
    return [
        (b"upload-offset", b"%d" % partial.certain),
        (b"upload-expires", format_http_date(partial.expires).encode()),
        *((name.encode(), value.encode("latin-1")) for name, value in told.items()),
    ]


def _plan(site: Site, exchange: Exchange) -> Plan:
    """What the header says of a new upload, checked as far as it can be now."""
    for name in (b"upload-defer-length", b"upload-concat"):
        if exchange.has(name):
            raise InvalidRequestError(f"{name.decode()} is of an extension that is not served.")
    length = tus.number_of(exchange, b"upload-length")
    text = ", ".join(exchange.lines(b"upload-metadata"))
    metadata = tus.parse_metadata(text)
    key = _key(metadata)
    value = tus.decoded(metadata, "value")
    head = None if value is None else parse_head(site, value, key)
    filetype = tus.decoded(metadata, "filetype")
    guard = guard_write(site, exchange, key, site.find(key))
    permissions = None if head is None else head.permissions
    change = Change(metadata={}, permissions=permissions, condition=guard.condition)
    with guard.held():
        site.demand_change(key, change)  # and once more at the end, which may be hours from now
    return Plan(
        key,
        length,
        text,
        value=None if value is None else value.decode(),
        mimetype=check_mimetype(filetype.decode("latin-1")) if filetype else None,
        if_match=guard.condition.if_match,
        create_only=guard.condition.create_only,
        is_stand_in=guard.is_stand_in,
        owner=None if site.caller is None else site.caller.tag,
    )


def _key(metadata: dict[str, str]) -> str:
    raw = tus.decoded(metadata, "key")
    if raw is None:
        raise InvalidRequestError("Upload-Metadata has no key.")
    try:
        return check_key(raw.decode())
    except UnicodeDecodeError:
        raise InvalidKeyError(f"The key in Upload-Metadata is no UTF-8: {raw!r:.100}.") from None


async def _receive(
    site: Site, exchange: Exchange, hold: Hold, checks: list[tus.Checksum | DigestCheck]
) -> None:
    """Add the body to the upload. What has come when it breaks off stays, if nothing checks it."""
    partial = hold.partial
    check_upload(exchange, partial.plan.length - partial.offset)

    def append(part: bytes) -> None:
        site.partials.append(partial, part)
        for check in checks:
            check.update(part)

    def end() -> None:
        partial.unpin(is_right=is_whole)
        site.partials.keep(partial)

    is_whole = False
    if checks:
        partial.pin()
    try:
        while not exchange.body.complete:
            await site.workers.run(append, await hold.part(exchange.body))
        for check in checks:
            check.verify()
        is_whole = True
    finally:
        await site.workers.run(end)


async def _store(site: Site, exchange: Exchange, partial: Partial) -> None:
    """Write the value. If it is refused the upload is gone; if the server fails it stays."""
    try:
        await site.workers.run_long(_commit, site, partial)
    except Exception as error:
        status = problem_of(error)[0]
        if status < 500 and status != 429:
            await _drop(site, exchange, partial)
        else:
            exchange.fields += _facts(partial)
        raise


async def _drop(site: Site, exchange: Exchange, partial: Partial) -> None:
    await site.workers.run(site.partials.remove, partial)
    exchange.fields = [tus.RESUMABLE]


def _commit(site: Site, partial: Partial) -> None:
    plan = partial.plan
    path, digest = partial.whole()
    head = Head(None, None, None, None)
    if plan.value is not None:
        head = parse_head(site, plan.value.encode(), plan.key, hasher=partial.hasher)
    if head.check is not None:
        head.check.verify(key=plan.key)
    condition = Condition(plan.if_match, plan.create_only)
    source = Source(path)
    source.adoptable = digest
    change = Change(
        data=source,
        metadata=head.metadata,
        permissions=head.permissions,
        mimetype=head.mimetype or plan.mimetype,
        condition=condition,
    )
    with Guard(condition, plan.is_stand_in).held():
        written = site.writer.write(plan.key, change)
    reply = stored_reply(site, plan.key, written, has_data=True)
    told = {name.decode(): value.decode("latin-1") for name, value in reply.fields if name in _TOLD}
    site.partials.stored(partial, told)
