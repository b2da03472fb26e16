"""The two URLs that an exporter posts to, and how it is told of errors."""

from __future__ import annotations

from typing import ClassVar

from kvstore.documents import parse_json
from kvstore.gateways.meteorpi.arrivals import receive
from kvstore.gateways.meteorpi.fields import check_hex
from kvstore.gateways.meteorpi.importing import import_message
from kvstore.gateways.meteorpi.multipart import FilePart, boundary_of
from kvstore.server.answers import NotAllowedError, Refusal, Reply, json_reply
from kvstore.server.exchange import Exchange
from kvstore.server.gateways import Gateway
from kvstore.server.handlers.receiving import Pieces, check_upload, take_body, verified
from kvstore.server.site import Site

#: Bytes that a body of one part has beside its file: two boundaries and a short header.
_AROUND = 16 * 1024
#: Fields of a refusal that say something to whoever was refused.
_KEPT = frozenset({b"allow", b"retry-after", b"cache-control"})


class MeteorpiGateway(Gateway):
    """Takes events, files and camera statuses from the exporters of MeteorPi (0.1.5).

    ``POST /import`` takes what there is to know and answers what is needed next, ``POST
    /import/data/{file id}/{MD5}`` takes the data of a file. Every answer is a JSON object with a
    ``state``; a refusal has the state ``failed``, a ``message`` and a status of 400 or more, which
    exporters take for a failure, too. They send the token as the password of their user.
    """

    name: ClassVar[str] = "meteorpi"
    prefix: ClassVar[str] = "/meteorpi"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply:
        """Answer a request; see :class:`Gateway`."""
        _, *steps = path.split("/")
        if not (steps == ["import"] or (len(steps) == 4 and steps[:2] == ["import", "data"])):
            raise Refusal(404, "There is nothing at this URL.")
        if exchange.method != "POST":
            raise NotAllowedError(exchange.method, "POST")
        _ = site.writer  # so that a body is not read for nothing
        if len(steps) == 1:
            return await _take_message(site, exchange)
        return await _take_data(site, exchange, steps[2], steps[3])

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        """Return an error as the answer ``failed``; see :class:`Gateway`."""
        problem = parse_json(reply.body)
        message = problem.get("detail") or problem.get("title")
        # What the importer of MeteorPi answers to who is not let in.
        status = 403 if reply.status == 401 else reply.status
        kept = [field for field in reply.fields if field[0] in _KEPT]
        return json_reply({"state": "failed", "message": message}, kept, status=status)


async def _take_message(site: Site, exchange: Exchange) -> Reply:
    check = check_upload(exchange, site.limits.metadata)
    body = await exchange.body.gather()

    def work() -> Reply:
        verified(body, check, None)
        return json_reply(import_message(site, body))

    return await site.workers.run_long(work)


async def _take_data(site: Site, exchange: Exchange, file_id: str, md5: str) -> Reply:
    file_id, md5 = check_hex(file_id, "The id of a file"), check_hex(md5, "An MD5")
    check = check_upload(exchange, site.limits.data + _AROUND)
    boundary = boundary_of(exchange.single(b"content-type"))

    def store(data: Pieces) -> Reply:
        body = verified(data, check, None)
        pieces = iter([body]) if isinstance(body, bytes) else body
        receive(site, file_id, md5, FilePart(pieces, boundary, "file"))
        return json_reply({"state": "continue"})

    return await take_body(site, exchange, store)
