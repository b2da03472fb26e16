"""Gateways: routers for the clients of other systems, over the store that is served.

The server knows none of them. Each is a package of its own that says what it is called in the
entry points ``kvstore.gateways``, those of other projects, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import parse_qsl

from kvstore.errors import InvalidRequestError
from kvstore.server.access.callers import Scope
from kvstore.server.answers import Reply
from kvstore.server.exchange import Exchange
from kvstore.server.site import Site

if TYPE_CHECKING:
    from kvstore.server.running.settings import Settings

#: Where packages say which gateways they have.
GROUP = "kvstore.gateways"


class Gateway(ABC):
    """Speaks the protocol of another system, below one path of the server.

    It sees what the server's own handlers see: the store as the caller may see it, the request and
    the limits. Its methods are called on the event loop, and so leave to ``site.workers`` whatever
    blocks. One that keeps anything between requests keeps it where several processes find it.
    """

    #: What it is called in settings and metrics.
    name: ClassVar[str]
    #: The path that it has all below of, of one segment: ``/filetracker``.
    prefix: ClassVar[str]

    @classmethod
    def for_settings(cls, settings: Settings, options: Mapping[str, str]) -> Self:
        """Return the gateway of a server that runs with these settings.

        Args:
            options: what was said behind its name, as in ``name?option=value``.

        Raises:
            InvalidRequestError: it has no such option, or that is no value of it.
        """
        for option in options:
            raise InvalidRequestError(f"The gateway {cls.name} has no option {option!a:.100}.")
        return cls()

    def scope(self, exchange: Exchange, path: str) -> Scope | None:
        """What a request wants to do; None: as its method says.

        Args:
            path: as for :meth:`answer`.
        """
        return None

    def public(self, exchange: Exchange, path: str) -> Reply | None:
        """Answer what everybody may know, before anybody is asked for credentials; None: the rest.

        Some clients look at what a service says of itself before they say who they are. It is
        called on the event loop, and sees no store.

        Args:
            path: as for :meth:`answer`.
        """
        return None

    @abstractmethod
    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        """Answer a request.

        Args:
            site: the store as whoever asks may see it.
            exchange: the request, whose body nobody has read yet.
            path: what follows the prefix, not decoded: empty, or with a slash first.

        Returns:
            the answer, or None where the gateway has sent it.

        Raises:
            Exception: what :meth:`refusal` has words for.
        """

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        """Return how clients of that protocol are told of an error.

        Args:
            reply: as the server's own clients are told, a problem document.
        """
        return reply


def by_prefix(gateways: Iterable[Gateway], taken: Iterable[str]) -> Mapping[str, Gateway]:
    """Return gateways by their prefixes.

    Raises:
        InvalidRequestError: two of them, or one and the server, want the same path.
    """
    found: dict[str, Gateway] = {}
    others = {path.split("/")[1] for path in taken}
    for gateway in gateways:
        prefix = gateway.prefix
        if prefix in found or prefix.removeprefix("/") in others:
            raise InvalidRequestError(f"{prefix!r:.100} is the path of two things.")
        found[prefix] = gateway
    return found


def known() -> dict[str, EntryPoint]:
    """Return what there is to load by the names of gateways."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP))}


def gateways_of(settings: Settings) -> list[Gateway]:
    """Return the gateways that the settings name, as ``name`` or ``name?option=value&…``.

    Raises:
        InvalidRequestError: there is no such gateway, it lacks what it needs, or has no such
            option.
    """
    entries, found = known(), []
    for text in dict.fromkeys(settings.gateways):
        name, _, query = text.partition("?")
        if name not in entries:
            there = ", ".join(entries) or "none"
            raise InvalidRequestError(f"There is no gateway {name!r:.100}, only {there}.")
        try:
            kind: type[Gateway] = entries[name].load()
        except ModuleNotFoundError as error:
            needed = f"pip install 'kvstore[gateways]' ({error})"
            raise InvalidRequestError(f"The gateway {name!r} needs: {needed}.") from None
        options = dict(parse_qsl(query, keep_blank_values=True))
        found.append(kind.for_settings(settings, options))
    return found
