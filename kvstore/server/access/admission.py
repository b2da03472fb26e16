"""Whether callers are told apart, and how, as the settings say."""

from __future__ import annotations

from kvstore.authorizing import AuthorizingStore
from kvstore.server.access.callers import Access, Authenticator
from kvstore.server.access.token_access import TokenAuthenticator
from kvstore.server.access.tokens import Tokens
from kvstore.server.running.refusals import is_loopback, is_unspecified
from kvstore.server.running.settings import Settings
from kvstore.store import ReadOnlyStore
from kvstore.values import PUBLIC


def access_of(settings: Settings, store: ReadOnlyStore) -> Access | None:
    """Return who may come in; None: whoever reaches the server.

    That is so where it was said, and where nobody could be meant but the user of this machine: no
    other one reaches the server, and there is nothing that tells callers apart. It is over when
    the first token is made.

    Args:
        store: the one that is served, connected.
    """
    rules = settings.access
    if rules.open:
        return None
    authenticators: list[Authenticator] = []
    closed = None
    if rules.tokens is not None:
        tokens = TokenAuthenticator(Tokens(rules.tokens))
        authenticators.append(tokens)
        closed = tokens.exists
    if settings.oidc is not None:
        # PyJWT is an extra of its own.
        from kvstore.server.access.oidc import OidcAuthenticator

        authenticators.append(OidcAuthenticator(settings.oidc, reserved=_reserved(store)))
    is_private = is_for_itself(settings)
    if is_private and closed is None:
        return None
    return Access(
        authenticators,
        public_read=rules.public_read,
        failures=rules.failures,
        closed=closed if is_private else None,
    )


def is_for_itself(settings: Settings) -> bool:
    """Whether nothing in the settings speaks of other users than that of this machine."""
    return is_loopback(settings.host) and not (
        settings.access.public_read
        or settings.oidc is not None
        or settings.allow_hosts
        or settings.trusted_proxies
    )


def sentences(settings: Settings) -> tuple[list[str], list[str]]:
    """Return what to tell who starts a server: who may come in, and what is probably not meant."""
    rules = settings.access
    told, warned = [], []
    has_tokens = rules.tokens is not None and Tokens(rules.tokens).exists()
    if rules.open and not is_loopback(settings.host):
        warned.append("Whoever reaches this server may read and change everything.")
    elif rules.open or (is_for_itself(settings) and not has_tokens):
        told.append("Whoever is on this machine may read and change everything.")
        if not rules.open and rules.tokens is not None:
            told.append("The first `kvstore token create NAME` ends that.")
    else:
        told.append("Whoever comes needs a token: `kvstore token create NAME` makes one.")
        if rules.public_read:
            told.append("Without one, what has the tag `public` can be read.")
        if not (has_tokens or rules.public_read or settings.oidc):
            where = "" if rules.tokens else " with --tokens FILE, as with the server,"
            warned.append(
                f"Nobody can use this server yet: `kvstore token create NAME`{where} lets in."
            )
    if settings.tls is None and not is_loopback(settings.host):
        warned.append("Without TLS, whoever is on the way can read tokens and data.")
    if not settings.allow_hosts and (is_unspecified(settings.host) or settings.trusted_proxies):
        warned.append(
            "Only requests for `localhost` are answered: --allow-host says under which name others "
            "know this server."
        )
    return told, warned


def _reserved(store: ReadOnlyStore) -> frozenset[str]:
    own = store.user_tag() if isinstance(store, AuthorizingStore) else PUBLIC
    return frozenset({own, PUBLIC})
