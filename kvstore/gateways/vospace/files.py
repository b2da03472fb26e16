"""``/files``: the bytes of nodes, whole or a range (a prototype of VOSpace 2.2)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

from kvstore.documents import JsonObject, copy_json
from kvstore.errors import ConflictError, KeyNotFoundError
from kvstore.gateways.vospace.asking import Asking
from kvstore.gateways.vospace.checksums import FOR_ONE, Md5Check, digest_field, facts_of_data
from kvstore.gateways.vospace.faults import invalid_argument
from kvstore.gateways.vospace.jobs import Job
from kvstore.gateways.vospace.names import AUTO, NULL, name_of, read_path
from kvstore.gateways.vospace.tree import CONTAINER, FIELD, facts_of
from kvstore.server.answers import Field, Reply, length_field, type_fields
from kvstore.server.handlers.preconditions import guard_write, is_conditional
from kvstore.server.handlers.reading import Plan, digest_fields, read_key, span_asked
from kvstore.server.handlers.receiving import Pieces, check_upload, mimetype_of, take_body, verified
from kvstore.streams import Source
from kvstore.values import Record
from kvstore.writes import Change, Condition, Written

#: Bytes of an upload that is gathered, so that its MD5 is stored with it in one step.
_GATHERED = 1 << 20
_TRIES = 20
_PLAIN = re.compile(r"[\w.+=@~-]+(?: [\w.+=@~-]+)*", re.ASCII)


async def get_file(asking: Asking, path: str) -> Reply:
    """Answer GET and HEAD: 200, 206 for a range, 304, 412, 416."""
    return await asking.site.workers.run(_read, asking, path)


async def put_file(asking: Asking, path: str) -> Reply:
    """Answer PUT: 201, with the MD5 of what was stored; 412 for what another was announced of."""
    exchange, site = asking.exchange, asking.site
    check = check_upload(exchange, site.limits.data)
    md5 = Md5Check(exchange.lines(b"digest"))
    mimetype = mimetype_of(exchange)
    job = await _job(asking)
    upload = await site.workers.run(_Upload, asking, path, mimetype, md5)

    def write(data: Pieces) -> Reply:
        data = data if job is None else _while_open(asking, data)
        reply = upload.write(verified(data, check, upload.key))
        _complete(asking, job)
        return reply

    if _is_gatherable(asking):
        body = await exchange.body.gather()
        return await site.workers.run(write, body)
    return await take_body(site, exchange, write)


class _Upload:
    """Bytes on their way to a node. Its methods block.

    Raises:
        Fault: there is no place for them.
        AuthorizationError: the caller may not write there.
    """

    def __init__(self, asking: Asking, path: str, mimetype: str | None, md5: Md5Check) -> None:
        self._asking = asking
        self._site = asking.site
        self._mimetype = mimetype
        self._md5 = md5
        self.key = _target_of(asking, path)
        self._vanishes = name_of(self.key) == NULL
        _ = self._site.writer
        if not self._vanishes:
            self._site.demand_change(self.key, Change(data=Source(b"")))

    def write(self, data: Pieces) -> Reply:
        """Store the bytes, and return the answer."""
        if self._vanishes:
            for _ in self._passing(data):
                pass
        elif isinstance(data, bytes):
            self._write_whole(self._md5.check(data, self.key))
        else:
            self._write_stream(data)
        fields = digest_field(self._md5.hexdigest)
        return Reply(201, [*fields, length_field(0)])

    def _passing(self, data: Pieces) -> Iterator[bytes]:
        pieces = [data] if isinstance(data, bytes) else data
        return self._md5.passing(pieces, self.key)

    def _write_whole(self, data: bytes) -> None:
        facts = facts_of_data(data)
        for _ in range(_TRIES):
            old = self._site.find(self.key)
            change = self._change(old)
            metadata = _with_facts(old, facts)
            try:
                self._site.writer.write(
                    self.key, replace(change, data=Source(data), metadata=metadata)
                )
                return
            except ConflictError:
                if is_conditional(self._asking.exchange):
                    raise
        self._site.writer.write(self.key, Change(data=Source(data), mimetype=self._mimetype))

    def _write_stream(self, data: Iterator[bytes]) -> None:
        change = Change(mimetype=self._mimetype)
        if is_conditional(self._asking.exchange):
            change = self._change(self._site.find(self.key))
        source = Source(self._passing(data))
        written = self._site.writer.write(self.key, replace(change, data=source))
        self._note(written)

    def _note(self, written: Written) -> None:
        """Store the MD5 beside what was written, unless somebody has changed that already."""
        record = self._site.find(self.key)
        if record is None or record.digest is None or record.revision != written.revision:
            return
        facts = {"digest": record.digest, "md5": self._md5.hexdigest}
        change = Change(metadata=_with_facts(record, facts), condition=Condition(record.revision))
        try:
            self._site.writer.write(self.key, change)
        except (ConflictError, KeyNotFoundError):
            return

    def _change(self, old: Record | None) -> Change:
        """What is written but for the bytes, on the condition that it is still the key *old*."""
        guard = guard_write(self._site, self._asking.exchange, self.key, old)
        condition = guard.condition
        if not condition and self._site.info.get("conditional"):
            condition = Condition(create_only=True) if old is None else Condition(old.revision)
        return Change(mimetype=self._mimetype, condition=condition)


def _target_of(asking: Asking, path: str) -> str:
    node_path = read_path(path)
    if not node_path:
        raise invalid_argument("The root of the space holds no bytes.")
    if name_of(node_path) == AUTO:
        raise invalid_argument(f"To have {AUTO!r} named, ask where to send the bytes to.")
    return node_path if name_of(node_path) == NULL else asking.tree.place(node_path)


def _with_facts(old: Record | None, data: JsonObject) -> JsonObject:
    metadata = {} if old is None else copy_json(old.metadata)
    facts = {name: value for name, value in facts_of(old).items() if name not in ("data", "target")}
    if facts.get("type") == "LinkNode":
        del facts["type"]
    return {**metadata, FIELD: {**facts, "data": data}}


def _is_gatherable(asking: Asking) -> bool:
    length = asking.exchange.body.length
    return length is not None and length <= _GATHERED


def _read(asking: Asking, path: str) -> Reply:
    node = asking.tree.source(read_path(path))
    if node.kind == CONTAINER:
        raise invalid_argument(f"A container holds no bytes: {node.path!r:.200}.")
    exchange, site = asking.exchange, asking.site
    job = _job_now(asking)
    budget = asking.sums.budget(FOR_ONE)

    def plan(record: Record) -> Plan:
        fields = [*_named(record), (b"accept-ranges", b"bytes"), *digest_fields(record.digest)]
        fields += digest_field(budget.md5(site, record))
        span = span_asked(exchange, record)
        if span is None:
            return Plan(200, fields)
        return Plan(206, [*fields, (b"content-range", span.content_range.encode())], span=span)

    # The parameters of this protocol are not those of the handler.
    exchange.scope["query_string"] = b""
    reply = read_key(site, exchange, node.key, plan)
    if exchange.method == "GET":
        _complete(asking, job)
    return reply


def _named(record: Record) -> list[Field]:
    """The type of the data, and the name that a file of it gets (RFC 6266)."""
    kept = []
    disposition = b"inline"
    for field in type_fields(record.mimetype):
        if field[0] == b"content-disposition":
            disposition = field[1]
        else:
            kept.append(field)
    name = name_of(record.key)
    if _PLAIN.fullmatch(name):
        told = f'filename="{name}"'
    else:
        told = f"filename*=UTF-8''{quote(name, safe='')}"
    return [*kept, (b"content-disposition", disposition + b"; " + told.encode())]


async def _job(asking: Asking) -> Job | None:
    return await asking.site.workers.run(_job_now, asking)


def _job_now(asking: Asking) -> Job | None:
    """The job that a transfer belongs to, by its URL.

    Raises:
        Fault: InvalidArgument: it is not open.
    """
    name = asking.parameters().get("JOB")
    if name is None:
        return None
    job = asking.jobs.get("transfers", name, asking.owner)
    if job.phase != "EXECUTING":
        raise invalid_argument(f"The job of this transfer is {job.phase}, and takes no bytes.")
    return job


def _while_open(asking: Asking, data: Pieces) -> Pieces:
    """Return *data*, which raise at their end if their job was given up while they came."""

    def pieces(stream: Iterator[bytes]) -> Iterator[bytes]:
        yield from stream
        _job_now(asking)

    if not isinstance(data, bytes):
        return pieces(data)
    _job_now(asking)
    return data


def _complete(asking: Asking, job: Job | None) -> None:
    if job is not None and (job.by_reader or not asking.only_reads):
        asking.jobs.put(replace(job, phase="COMPLETED", ended=time.time()))
