"""What every handler is given: one request, and what this gateway has."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from kvstore.gateways.vospace.checksums import Checksums
from kvstore.gateways.vospace.faults import invalid_argument
from kvstore.gateways.vospace.jobs import Jobs
from kvstore.gateways.vospace.markup import HEAD, MOST_BYTES
from kvstore.gateways.vospace.names import Space
from kvstore.gateways.vospace.running import Runner
from kvstore.gateways.vospace.tree import Tree
from kvstore.server.answers import NO_STORE, SAFE, Field, Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.patience import Patience
from kvstore.server.site import Site

#: No browser takes it for anything but a document of its own; it has no stylesheet, and runs none.
XML: Field = (b"content-type", b"text/xml; charset=utf-8")
_PLAIN: Field = (b"content-type", b"text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Asking:
    """One request."""

    site: Site
    exchange: Exchange
    #: The URL of the gateway, without a slash at its end.
    base: str
    space: Space
    sums: Checksums
    jobs: Jobs
    runner: Runner

    @property
    def tree(self) -> Tree:
        """The nodes that the caller sees, for as long as a query of others may take."""
        patience = Patience(self.exchange, self.site.limits.query_time)
        return Tree(self.site, self.space, patience)

    @property
    def owner(self) -> str:
        """Who may see the jobs that this request makes."""
        return self.site.user_tag()

    @property
    def only_reads(self) -> bool:
        """Whether the caller's credentials are not for writing."""
        caller = self.site.caller
        return caller is not None and not caller.may("write")

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the URL, by their names in capitals.

        Raises:
            Fault: InvalidArgument: one is given twice.
        """
        return form_of(self.exchange.scope["query_string"])

    async def document(self) -> bytes:
        """Return the body, which is a document.

        Raises:
            TooLargeError: it is too large for one.
        """
        self.exchange.body.check_length(MOST_BYTES)
        return await self.exchange.body.gather()


def form_of(text: bytes) -> dict[str, str]:
    """Return what an HTML form, or the query of a URL, says; names are in capitals.

    Raises:
        Fault: InvalidArgument: a name is given twice, or it is no such text.
    """
    try:
        pairs = parse_qsl(
            text.decode("ascii"), True, encoding="utf-8", errors="strict", max_num_fields=100
        )
    except ValueError:
        raise invalid_argument(f"That is no form: {text!r:.100}.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name.upper() in found:
            raise invalid_argument(f"The parameter {name!r:.100} is given twice.")
        found[name.upper()] = value
    return found


def xml_reply(text: str, *, status: int = 200) -> Reply:
    """Return a document as an answer."""
    body = f"{HEAD}{text}".encode()
    return Reply(status, [XML, *SAFE, NO_STORE, length_field(len(body))], body)


def plain_reply(text: str) -> Reply:
    """Return one word as an answer."""
    body = text.encode()
    return Reply(200, [_PLAIN, *SAFE, NO_STORE, length_field(len(body))], body)


def see_other(url: str) -> Reply:
    """Return the answer that sends a client to another URL of ours."""
    return Reply(303, [(b"location", url.encode("ascii")), NO_STORE, length_field(0)])
