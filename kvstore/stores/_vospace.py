"""Where a VOSpace is that a URL ``vos://…`` names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kvstore.errors import InvalidRequestError
from kvstore.keys import check_key

#: Schemes of such URLs.
SCHEMES = ("vos", "vos+http", "vos+https")
#: Names the registry file where no argument does.
VARIABLE = "KVSTORE_VOSPACE_REGISTRY"
#: What the clients of CADC have fetched of their registry.
_CACHED = Path(".config", "cadc-registry", "resource-caps")
_CAPABILITIES = "/capabilities"
_AUTHORITY = re.compile(r"[A-Za-z0-9][\w.\-]*(?:[~!][\w.\-]+)+", re.ASCII)
#: Bytes that are read of a registry file; that of CADC has some thousand.
_MOST = 1 << 24


def located(url: str, registry: Any) -> tuple[str, dict[str, str]]:
    """Return the URL of the service that *url* names, and what a profile is to say of it.

    Args:
        url: ``vos+http://HOST/PATH`` of a service, or ``vos://AUTHORITY/PATH`` of a container.
        registry: path of a file of lines ``ivo://… = URL``; None for that of the environment.

    Raises:
        InvalidRequestError: no such URL, or the registry does not know the authority.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "vos":
        if registry is not None:
            raise InvalidRequestError(f"A registry is for vos://…, not for {scheme!r:.20}: URLs.")
        return f"{scheme.lower().partition('+')[2]}:{rest}", {}
    parts = urlsplit(url)
    if not _AUTHORITY.fullmatch(parts.netloc) or parts.query or parts.fragment:
        shown = url.rpartition("@")[2]
        raise InvalidRequestError(f"A VOSpace is vos://AUTHORITY~NAME[/PATH], not {shown!r:.100}.")
    base = _registered(re.sub("[~!]", "/", parts.netloc), registry)
    told = {"authority": f"vos://{parts.netloc}"}
    root = unquote(parts.path).strip("/")
    return base, {**told, "root": check_key(root)} if root else told


def _registered(name: str, registry: Any) -> str:
    path = _registry_file(registry)
    try:
        with path.open("rb") as file:
            lines = file.read(_MOST).decode("utf-8", "replace").splitlines()
    except OSError as error:
        how = f"give registry=, or set {VARIABLE}, to the path of a file of lines 'ivo://… = URL'"
        message = (
            f"Nothing says where ivo://{name} is ({error.strerror}: {str(path)!r:.200}); {how}"
        )
        raise InvalidRequestError(f"{message}, or open vos+https://HOST/PATH.") from None
    for line in lines:
        known, separator, url = (part.strip() for part in line.partition("="))
        if separator and known.lower() == f"ivo://{name}".lower():
            if not url.startswith(("http://", "https://")) or not url.endswith(_CAPABILITIES):
                message = f"ivo://{name} is registered at {url!r:.200}, no URL of capabilities."
                raise InvalidRequestError(message)
            return url.removesuffix(_CAPABILITIES)
    raise InvalidRequestError(f"ivo://{name} is not in the registry file {str(path)!r:.200}.")


def _registry_file(given: Any) -> Path:
    if given is None:
        given = os.environ.get(VARIABLE) or Path.home() / _CACHED
    if not isinstance(given, (str, os.PathLike)):
        raise InvalidRequestError(f"A registry is the path of a file, not {given!r:.100}.")
    return Path(given)
