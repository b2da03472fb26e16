"""The service document: what a server says of itself at ``/.well-known/kvstore``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin

from kvstore.documents import JsonObject, check_document
from kvstore.values import PUBLIC

URL_FORMAT = "{base}/{key}/{part}"
URL_FORMAT_NO_PART = "{base}/{key}"
PARTS: Mapping[str, str] = MappingProxyType(
    {"data": "data", "metadata": "metadata", "permissions": "auth"}
)
#: The part of the *value* extension; it has no place among the parts of the basic protocol.
VALUE_PART = "value"


@dataclass(frozen=True, slots=True)
class Service:
    """A server's URLs and abilities. That of the basic protocol has no capabilities."""

    base: str = ""
    query: str = ""
    url_format: str = URL_FORMAT
    url_format_no_part: str = URL_FORMAT_NO_PART
    parts: Mapping[str, str] = field(default_factory=lambda: PARTS)
    capabilities: frozenset[str] = frozenset()
    #: What the server's own store says of itself, as ``info()`` does.
    store: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    user_tag: str = PUBLIC

    @classmethod
    def of_document(cls, document: JsonObject, url: str) -> Service:
        """Return the service that *document*, read from *url*, describes.

        Raises:
            InvalidRequestError: it does not fit ``schemas/service.schema.json``.
        """
        check_document(document, "service", what=f"service document of {url}")
        profile = document["profile"]
        return cls(
            base=urljoin(url, profile["base"]).rstrip("/"),
            query=urljoin(url, profile["query"]),
            url_format=profile.get("url_format", URL_FORMAT),
            url_format_no_part=profile.get("url_format_no_part", URL_FORMAT_NO_PART),
            parts=MappingProxyType({**PARTS, **profile.get("parts", {})}),
            capabilities=frozenset(document["capabilities"]),
            store=MappingProxyType(dict(document.get("store", {}))),
            user_tag=document.get("user", {}).get("tag", PUBLIC),
        )


BASIC = Service()
