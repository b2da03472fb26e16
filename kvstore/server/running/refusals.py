"""What of the settings of a server makes no sense, or would let in more than is meant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from importlib.util import find_spec

from kvstore.errors import InvalidRequestError
from kvstore.server.gateways import by_prefix, gateways_of
from kvstore.server.hosts import Hosts
from kvstore.server.running.settings import ALGORITHMS, Oidc, Settings
from kvstore.server.running.tls import context_of


def refusals(settings: Settings) -> Iterator[str]:
    """Yield a sentence for everything that the settings are refused for."""
    yield from _of_numbers(settings)
    yield from _of_names(settings)
    try:
        by_prefix(gateways_of(settings), ())
    except InvalidRequestError as error:
        yield error.message
    if settings.tls is not None:
        try:
            context_of(settings.tls)
        except InvalidRequestError as error:
            yield error.message
    elif not settings.insecure and not is_loopback(settings.host):
        yield (
            f"At {settings.host!r:.100} other machines can reach the server, and whoever is on the "
            "way could read tokens and data. Give it a certificate (--tls-cert, --tls-key), or say "
            "--insecure where the network is trusted or a proxy in front of it speaks TLS."
        )
    if settings.access.open and (settings.access.public_read or settings.oidc is not None):
        yield "An open server asks nobody for credentials: --open goes with no other access."
    if settings.oidc is not None:
        yield from _of_oidc(settings.oidc)


def check(settings: Settings) -> None:
    """Refuse settings that :func:`refusals` has something against.

    Raises:
        InvalidRequestError: it has; the first of its sentences.
    """
    for sentence in refusals(settings):
        raise InvalidRequestError(sentence)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Whether *host* stands for all addresses of this machine."""
    return host.strip("[]") in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened at


def _of_numbers(settings: Settings) -> Iterator[str]:
    if not 0 <= settings.port <= 65535:
        yield f"A port is a number up to 65535, not {settings.port}."
    if settings.workers < 1:
        yield f"A server has at least one process that answers, not {settings.workers}."
    if settings.access.failures < 1:
        yield f"access.failures is a number above 0, not {settings.access.failures}."
    if not settings.grace >= 0:
        yield f"grace is a number of seconds, not {settings.grace}."


def _of_names(settings: Settings) -> Iterator[str]:
    try:
        Hosts(settings.allow_hosts)
    except InvalidRequestError as error:
        yield error.message
    for proxy in settings.trusted_proxies:
        if not _is_network(proxy):
            yield f"A trusted proxy is an address or a network such as 10.0.0.0/8, not {proxy!r}."


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _of_oidc(oidc: Oidc) -> Iterator[str]:
    if find_spec("jwt") is None:
        yield "Tokens of an OpenID provider need: pip install 'kvstore[oidc]'."
    # What is fetched there says whose signatures count.
    is_local = oidc.issuer.startswith(("http://127.0.0.1:", "http://localhost:", "http://[::1]:"))
    if not oidc.issuer.startswith("https://") and not is_local:
        yield f"An OpenID provider has an https URL, not {oidc.issuer!r:.200}."
    if not oidc.audience:
        yield "Without oidc.audience the tokens for any other service would be taken here."
    unknown = [name for name in oidc.algorithms if name not in ALGORITHMS]
    if unknown or not oidc.algorithms:
        shown = ", ".join(map(repr, unknown)) or "none"
        yield f"Signatures (oidc.algorithms) are some of {', '.join(ALGORITHMS)}, not {shown:.100}."
    if not 0 <= oidc.leeway <= 300:
        yield f"oidc.leeway is up to 300 seconds, not {oidc.leeway:g}."
