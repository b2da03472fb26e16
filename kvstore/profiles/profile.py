"""A profile: what the operations of a store are on one kind of HTTP server, as one document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kvstore.documents import JsonObject, check_document, copy_json
from kvstore.errors import InvalidKeyError, InvalidRequestError
from kvstore.profiles.facts import Fact, Place, facts_of
from kvstore.profiles.operations import Operation, check_pattern
from kvstore.profiles.service import PARTS, URL_FORMAT, URL_FORMAT_NO_PART
from kvstore.profiles.statuses import Statuses

#: Facts that any HTTP server may tell (RFC 9110 section 8).
_USUAL_FACTS = {
    "size": "header:Content-Length",
    "modified": "header:Last-Modified",
    "mimetype": "header:Content-Type",
}
#: Operations that change something.
WRITES = frozenset(
    {"set", "replace", "reserve", "delete", "set_metadata", "update_metadata", "delete_metadata"}
)


@dataclass(frozen=True, slots=True)
class KeyRules:
    """Which keys the server takes, beside the rules of all stores."""

    safe: str | None = None
    pattern: re.Pattern[str] | None = None
    #: What a key must not hold, and how the rule is told.
    reject: tuple[tuple[re.Pattern[str], str], ...] = ()
    assigned_by_server: bool = False
    #: A legal key that nobody has, to ask a server for.
    example: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> KeyRules:
        """Return the rules that a profile describes."""
        pattern = document.get("pattern")
        return cls(
            document.get("safe"),
            None if pattern is None else check_pattern(pattern, "/keys/pattern"),
            tuple(
                (check_pattern(rule["pattern"], f"/keys/reject/{number}/pattern"), rule["rule"])
                for number, rule in enumerate(document.get("reject", ()))
            ),
            document.get("assigned_by") == "server",
            document.get("example"),
        )


@dataclass(frozen=True, slots=True)
class MetadataRules:
    """How metadata travel.

    ``none``; a ``document`` with a URL of its own; one ``header`` with JSON; ``headers`` with a
    prefix, one for each field; single ``fields``
    that answers tell; or the ``listing`` alone has them.
    """

    carrier: str = "none"
    #: Whether a key may have no document, and then has no metadata.
    may_be_missing: bool = False
    pointer: str = ""
    prefix: str = ""
    codec: str = "json"
    #: The one header that has them all.
    header: str = ""
    fields: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> MetadataRules:
        """Return the rules that a profile describes."""
        return cls(
            carrier=document.get("carrier", "none"),
            may_be_missing=document.get("missing") == "empty",
            pointer=document.get("pointer", ""),
            prefix=document.get("prefix", ""),
            codec=document.get("codec", "json"),
            header=document.get("header", ""),
            fields=facts_of(document.get("fields", {})),
        )


@dataclass(frozen=True, slots=True)
class Auth:
    """The header that has the credentials."""

    header: str = "Authorization"
    prefix: str = "Bearer "


@dataclass(frozen=True, slots=True)
class Profile:
    """How to talk to one kind of server. Immutable; pickles; equal where the documents are.

    Made by :meth:`of`. ``docs/profiles.md`` says what each part of the document means.
    """

    name: str
    #: The document that it was made of.
    document: JsonObject
    description: str = field(compare=False)
    dialect: str = field(compare=False)
    keys: KeyRules = field(compare=False)
    auth: Auth | None = field(compare=False)
    metadata: MetadataRules = field(compare=False)
    operations: Mapping[str, Operation] = field(compare=False)
    error_message: tuple[Place, ...] = field(compare=False)
    redirects: int | None = field(compare=False)
    #: Fields of a `Policy` that it decides where the user does not.
    timeouts: Mapping[str, float] = field(compare=False)
    capabilities: Mapping[str, Any] = field(compare=False)
    #: What the dialect of that name is told.
    vospace: Mapping[str, Any] = field(compare=False)

    @classmethod
    def of(cls, document: object) -> Profile:
        """Return the profile that a JSON document describes.

        Raises:
            InvalidRequestError: it does not fit ``schemas/profile.schema.json`` (the error has the
                JSON pointer of what does not), or a template or a pattern in it is none.
        """
        what = "profile"
        if isinstance(document, Mapping) and isinstance(document.get("name"), str):
            what = f"profile {document['name']!r:.70}"
        check_document(document, "profile", what=what)
        copy: JsonObject = copy_json(document)
        auth = copy.get("auth")
        keys = KeyRules.of(copy.get("keys", {}))
        return cls(
            name=copy["name"],
            document=copy,
            description=copy.get("description", ""),
            dialect=copy.get("dialect", "http"),
            keys=keys,
            auth=None if auth is None else Auth(auth["header"], auth.get("prefix", "")),
            metadata=MetadataRules.of(copy.get("metadata", {})),
            operations=MappingProxyType(_operations(copy, keys.safe)),
            error_message=tuple(map(Place.of, copy.get("error_message", ()))),
            redirects=copy.get("redirects"),
            timeouts={f"{name}_timeout": value for name, value in copy.get("timeouts", {}).items()},
            capabilities=copy.get("capabilities", {}),
            vospace=copy.get("vospace", {}),
        )

    def __reduce__(self) -> tuple[Callable[[object], Profile], tuple[JsonObject]]:
        return Profile.of, (self.document,)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Profile {self.name!r}>"

    def check_key(self, key: str) -> str:
        """Return *key* if this server takes it.

        Raises:
            InvalidKeyError: naming the rule that it breaks.
        """
        rules = self.keys
        if rules.pattern is not None and not rules.pattern.fullmatch(key):
            wanted = f"a key of the profile {self.name!r} has the form {rules.pattern.pattern!r}"
            raise InvalidKeyError(f"The key {key!a:.200} is none here: {wanted}.", key=key)
        for pattern, rule in rules.reject:
            if pattern.search(key):
                message = f"The key {key!a:.200} is none for the profile {self.name!r}: {rule}."
                raise InvalidKeyError(message, key=key)
        return key

    @property
    def is_readonly(self) -> bool:
        """Whether it has no operation that changes anything."""
        has_none = self.dialect == "http" and WRITES.isdisjoint(self.operations)
        told: bool = self.capabilities.get("readonly", has_none)
        return told

    def layout(self, base: str) -> dict[str, Any]:
        """Return what the URLs of a server of kvstore's own protocol at *base* are.

        Raises:
            InvalidRequestError: it is a profile of another protocol.
        """
        if self.dialect != "kvstore":
            raise InvalidRequestError(f"The profile {self.name!r} is not of kvstore's protocol.")
        document = self.document
        return {
            "base": document.get("base", "{base}").replace("{base}", base),
            "query": document.get("query", "{base}/query").replace("{base}", base),
            "url_format": document.get("url_format", URL_FORMAT),
            "url_format_no_part": document.get("url_format_no_part", URL_FORMAT_NO_PART),
            "parts": {**PARTS, **document.get("parts", {})},
        }


def _operations(document: JsonObject, safe: str | None) -> dict[str, Operation]:
    statuses = Statuses().over(document.get("status", {}), document.get("status_if_body", ()))
    facts = {**_USUAL_FACTS, **document.get("facts", {})}
    return {
        name: Operation.of(
            name,
            operation,
            safe=safe,
            headers=document.get("headers", {}),
            facts=facts,
            statuses=statuses,
        )
        for name, operation in document.get("operations", {}).items()
    }
