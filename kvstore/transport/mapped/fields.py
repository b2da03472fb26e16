"""Metadata that travel with the data: in headers, or as what the server has a place for."""

from __future__ import annotations

import re
from typing import Any

from kvstore.documents import JsonObject
from kvstore.errors import UnsupportedOperationError
from kvstore.profiles.codecs import encode
from kvstore.profiles.operations import Operation
from kvstore.transport.mapped.talk import Talk

_FIELD = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


def header_fields(talk: Talk, key: str, metadata: JsonObject) -> dict[str, str]:
    """Return metadata as header fields.

    Raises:
        UnsupportedOperationError: a name or a value that no header can carry.
    """
    rules = talk.profile.metadata
    if rules.carrier == "header":
        return {rules.header: encode("json", metadata)}
    fields = {}
    for name, value in metadata.items():
        text = encode(rules.codec, value)
        if not _FIELD.fullmatch(name) or not (text.isascii() and text.isprintable()):
            message = f"The metadata {name!a:.100}: {value!a:.100} cannot travel in a header"
            raise UnsupportedOperationError(f"{message} of this server.", key=key)
        fields[f"{rules.prefix}{name}"] = text
    return fields


def sent_values(talk: Talk, key: str, operation: Operation, metadata: JsonObject) -> dict[str, Any]:
    """Return metadata that the server has a place for, by source."""
    sources = operation.sources()
    for name in metadata:
        if f"metadata.{name}" not in sources:
            raise talk.unsupported(f"set with metadata {name!a:.100}", key)
    return {f"metadata.{name}": value for name, value in metadata.items()}
