"""Everything that a server can be told, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from kvstore.server.limits import Limits, Reads

DEFAULT_PORT = 8000
LogFormat: TypeAlias = Literal["auto", "text", "json", "none"]

#: Signatures that whoever checks them cannot make: with a shared secret (HS256) the server could
#: sign for anybody, and a public key would pass for that secret.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The files of a certificate, in PEM."""

    #: The certificate, and those between it and one that clients know.
    cert: Path
    #: Its private key.
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """Who may come in, beside those whom an OpenID provider knows."""

    #: Whoever reaches the server may do everything.
    open: bool = False
    #: Everybody may read what has the tag ``public``.
    public_read: bool = False
    #: The file of the tokens; None: there are none.
    tokens: Path | None = None
    #: Wrong credentials a minute from one address that are told so; 429 above.
    failures: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """Whose signed tokens (JWT) are taken, and what their claims mean here."""

    #: URL of the OpenID provider, as in the claim ``iss``.
    issuer: str
    #: What must be in the claim ``aud``: the name of this server at the provider.
    audience: str
    #: Which claim is the tag of the user.
    user_claim: str = "sub"
    #: Which claim has further tags, as a list or with spaces between; None: there are none.
    tags_claim: str | None = None
    #: Stands before each tag that comes from claims, to tell them from those of this server.
    prefix: str = ""
    #: Which claim says what the token is for, and the words in it for each scope. Without any such
    #: word every token is to read and write.
    scope_claim: str = "scope"
    read_scope: str | None = None
    write_scope: str | None = None
    metrics_scope: str | None = None
    #: Signatures that are taken, some of `ALGORITHMS`.
    algorithms: tuple[str, ...] = ALGORITHMS
    #: Seconds that the clocks of provider and server may differ.
    leeway: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that `kvstore serve` can be told."""

    #: URL of the store, for the command line; :func:`kvstore.server.serve` is given the store.
    store: str | None = None
    #: Earlier versions of each key that the store keeps, and whether its writes survive a power
    #: cut; for the command line, too.
    keep_versions: int = 0
    durable: bool = False
    #: Name or address to listen at.
    host: str = "127.0.0.1"
    #: 0 takes a free one.
    port: int = DEFAULT_PORT
    #: Names that the server answers to beside its own, see :func:`kvstore.server.create_app`.
    allow_hosts: tuple[str, ...] = ()
    #: Other machines may reach it in clear text.
    insecure: bool = False
    tls: Tls | None = None
    access: AccessRules = field(default_factory=AccessRules)
    oidc: Oidc | None = None
    #: Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    trusted_proxies: tuple[str, ...] = ()
    #: Processes that answer. Bounds on connections and threads are those of each.
    workers: int = 1
    #: Seconds that answers on their way have when the server is told to end.
    grace: float = 10.0
    #: Where uploads are kept that are not complete; None: in a temporary folder.
    uploads: Path | None = None
    #: Of the lines on standard error, one a request, see
    #: :func:`kvstore.server.observing.logs.logging_to`.
    log_format: LogFormat = "auto"
    #: Whether data are checked while they are sent whole.
    reads: Reads = "checked"
    #: Whether there are metrics, at ``/metrics``.
    metrics: bool = True
    #: Gateways for the clients of other systems, as ``name`` or ``name?option=value``.
    gateways: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
