"""What each caller sees of the store."""

from __future__ import annotations

import functools
from dataclasses import replace

from kvstore.authorizing import AuthorizingStore
from kvstore.compose.authorized import AuthorizedStore
from kvstore.server.access.callers import READER, Access, Caller, Scope, unauthenticated
from kvstore.server.exchange import Exchange
from kvstore.server.site import Site
from kvstore.store import ReadOnlyStore

#: Users whose view is kept at hand. One is cheap to make.
_KEPT = 1024
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Views:
    """Gives each request the site as its caller sees it. Lives on the event loop.

    Args:
        site: the whole.
        access: tells callers apart; None: everybody sees the whole.
    """

    def __init__(self, site: Site, access: Access | None) -> None:
        self._site = site
        self._access = access
        self._view = functools.lru_cache(_KEPT)(self._make)
        self._readonly = {**site.info, "readonly": True}
        self._sites: dict[int, Site] = {}

    async def of(
        self, exchange: Exchange, scope: Scope | None = None, *, takes_basic: bool = False
    ) -> Site:
        """Return what the caller of a request sees.

        Args:
            scope: what the request wants to do; None: as its method says.
            takes_basic: as for :meth:`Access.caller`.

        Raises:
            AuthenticationError: no credentials, or some that do not hold.
            AuthorizationError: they are not for such a request.
        """
        if self._access is None or self._access.is_open():
            return self._site
        caller = await self._access.caller(exchange, takes_basic=takes_basic)
        exchange.caller = caller.name
        if scope is None:
            scope = "read" if exchange.method in _READS else "write"
        caller.demand(scope)
        if caller is READER and not self._site.is_authorizing:
            raise unauthenticated()  # nothing in it is public: all of it would be
        # A body may take hours to come: nothing is stored by a token that was revoked meanwhile.
        exchange.body.at_end = caller.demand_still
        site = self._sites.get(id(caller))
        if site is None or site.caller is not caller:
            site = self._site_of(caller)
        return site

    def _site_of(self, caller: Caller) -> Site:
        info = self._site.info if caller.may("write") else self._readonly
        store = self._view(caller.tag, caller.tags)
        site = replace(self._site, store=store, caller=caller, info=info)
        if len(self._sites) >= _KEPT:
            self._sites.clear()
        # By identity: one who has the same name later is told apart by what its token says then.
        self._sites[id(caller)] = site
        return site

    def _make(self, tag: str, tags: frozenset[str]) -> ReadOnlyStore:
        store = self._site.store
        # A store without permissions is all or nothing: whoever may come in sees all of it.
        if isinstance(store, AuthorizingStore) and self._site.is_authorizing:
            return AuthorizedStore(store, tag, tags)
        return store
