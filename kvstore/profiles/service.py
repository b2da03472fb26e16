"""The service document: what a server says of itself at ``/.well-known/kvstore``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

from kvstore.documents import JsonObject, check_document
from kvstore.errors import InvalidRequestError
from kvstore.profiles.templates import Template
from kvstore.values import PUBLIC

URL_FORMAT = "{base}/{key}/{part}"
URL_FORMAT_NO_PART = "{base}/{key}"
PARTS: Mapping[str, str] = MappingProxyType(
    {"data": "data", "metadata": "metadata", "permissions": "auth"}
)
#: The parts of the extensions of these names; they have no place among those of the basic protocol.
VALUE_PART = "value"
VERSIONS_PART = "versions"
# Capabilities that have a URL of their own.
_EXTRA = ("changes", "batch", "uploads", "have")


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
    #: What the server announces as its limits, by name; those that are none are left out.
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: URLs of the extensions of these names; empty where they are not announced.
    changes: str = ""
    batch: str = ""
    uploads: str = ""
    have: str = ""

    @property
    def layout(self) -> tuple[object, ...]:
        """What decides which URL a key has."""
        return self.base, self.url_format, self.url_format_no_part, dict(self.parts)

    def without(self, is_foreign: Callable[[str], bool]) -> Service:
        """Return the same without the extensions that have no URL, or one that is not trusted."""
        urls = {name: getattr(self, name) for name in _EXTRA}
        lost = {name for name, url in urls.items() if not url or is_foreign(url)}
        emptied: dict[str, Any] = dict.fromkeys(lost, "")
        return replace(self, capabilities=self.capabilities - lost, **emptied)

    def check(self) -> None:
        """Check that each part of each key has a URL of its own, all of them at one host.

        Raises:
            InvalidRequestError: naming the template or the part that is wrong.
        """
        for part, name in self.parts.items():
            if part not in PARTS or not isinstance(name, str) or not name:
                message = f"The parts are {', '.join(PARTS)}, each with a name"
                raise InvalidRequestError(f"{message}, not {part!r:.50}: {name!r:.50}.")
        template, whole = Template(self.url_format), Template(self.url_format_no_part)
        hosts: set[tuple[str, str]] = set()
        for key in ("k", "x"):
            names = self.parts.values()
            urls = {template.expand(base=self.base, key=key, part=name) for name in names}
            if len(urls) < len(PARTS):
                message = "have one URL, so that one would overwrite the other"
                raise InvalidRequestError(f"Parts of a key {message}: {self.url_format!r:.100}.")
            hosts.update(map(_host_of, [*urls, whole.expand(base=self.base, key=key)]))
        if len(hosts) > 1:
            # "{base}{key}" on a base without a path, where a key decides who is sent what.
            raise InvalidRequestError(f"The key is part of the host in {self.url_format!r:.100}.")

    @classmethod
    def of_document(cls, document: JsonObject, url: str) -> Service:
        """Return the service that *document*, read from *url*, describes.

        Raises:
            InvalidRequestError: it does not fit ``schemas/service.schema.json``, or its URLs are
                none.
        """
        check_document(document, "service", what=f"service document of {url}")
        profile = document["profile"]
        try:
            base, query = urljoin(url, profile["base"]), urljoin(url, profile["query"])
            extra = {name: urljoin(url, profile[name]) for name in _EXTRA if name in profile}
        except ValueError as error:
            raise InvalidRequestError(f"The service document has no URLs: {error}.") from error
        return cls(
            base=base.rstrip("/"),
            query=query,
            url_format=profile.get("url_format", URL_FORMAT),
            url_format_no_part=profile.get("url_format_no_part", URL_FORMAT_NO_PART),
            parts=MappingProxyType({**PARTS, **profile.get("parts", {})}),
            capabilities=frozenset(document["capabilities"]),
            store=MappingProxyType(dict(document.get("store", {}))),
            user_tag=document.get("user", {}).get("tag", PUBLIC),
            limits=MappingProxyType(
                {name: most for name, most in document.get("limits", {}).items() if most}
            ),
            **extra,
        )


BASIC = Service()


def _host_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
