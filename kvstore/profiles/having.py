"""What is asked of a copy before anything is sent there: which of these keys does it have?

The same for both ends, and for two stores without a server between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from kvstore.documents import JsonObject, check_metadata, dump_json, json_type, parse_object
from kvstore.errors import InvalidMetadataError, InvalidRequestError, TransportError
from kvstore.keys import check_key
from kvstore.values import Record
from kvstore.where import json_equal

#: ``have``: nothing is to be sent; ``need_data``: everything is; ``need_metadata``: only those;
#: ``conflict``: the key was changed here since it was seen last, somebody has to decide.
Status: TypeAlias = Literal["have", "need_data", "need_metadata", "conflict"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TEXTS = ("digest", "revision", "base", "mimetype")
_MEMBERS = frozenset({"key", "metadata", *_TEXTS})


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sender has under a key. What is None is not told."""

    key: str
    #: ``sha256:<hex>`` of its data.
    digest: str | None = None
    #: Its revision there. It says something only where one store began as the files of the other.
    revision: str | None = None
    #: The revision that the sender saw here last; None: it never looked, or wants no conflict.
    base: str | None = None
    metadata: JsonObject | None = None
    mimetype: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a claim came to."""

    key: str
    status: Status
    #: The revision here, for the condition under which to send; None where there is no such key.
    revision: str | None


def judge(claim: Claim, record: Record | None) -> Finding:
    """Compare *claim* with what is here under its key, None if that is nothing.

    The first of these that holds:

    - ``have``: the digests are equal, and so are the revisions or else metadata and media type,
      as far as they are told and metadata are. Two who made the same of a key have no conflict.
    - ``conflict``: the claim has a base that is not the revision here; a key that is gone has none.
    - ``need_data``: no such key, other data, or another media type, which belongs to the data.
    - ``need_metadata``: the metadata differ, or were not told.
    """
    if record is None:
        return Finding(claim.key, "need_data" if claim.base is None else "conflict", None)
    has_data = claim.digest is not None and claim.digest == record.digest
    is_same = claim.revision is not None and claim.revision == record.revision
    has_data &= is_same or claim.mimetype in (None, record.mimetype)
    if has_data and not is_same and claim.metadata is not None:
        is_same = json_equal(claim.metadata, record.metadata)
    status: Status = "need_data"
    if has_data and is_same:
        status = "have"
    elif claim.base not in (None, record.revision):
        status = "conflict"
    elif has_data:
        status = "need_metadata"
    return Finding(claim.key, status, record.revision)


def claim_line(claim: Claim) -> bytes:
    """Return the line of a question, without its end."""
    facts = ((name, getattr(claim, name)) for name in ("metadata", *_TEXTS))
    return dump_json({"key": claim.key, **{name: fact for name, fact in facts if fact is not None}})


def parse_claim(line: bytes) -> Claim:
    """Return the claim in a line of :func:`claim_line`.

    Raises:
        InvalidRequestError, InvalidKeyError, InvalidMetadataError: what is malformed or unknown.
    """
    document = parse_object(line, what="claim")
    unknown = document.keys() - _MEMBERS
    if unknown:
        message = f"A claim has no member {min(unknown)!r:.100}, only {', '.join(sorted(_MEMBERS))}"
        raise InvalidRequestError(f"{message}.")
    key, metadata = document.get("key"), document.get("metadata")
    if not isinstance(key, str):
        raise InvalidRequestError(f"The key of a claim is a string, not {key!r:.100}.")
    check_key(key)
    texts: dict[str, Any] = {name: document.get(name) for name in _TEXTS}
    for name, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text):
            raise InvalidRequestError(f"The {name} of a claim is a string, not {text!r:.100}.")
    digest = texts["digest"]
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise InvalidRequestError(f"A digest is sha256:<64 hex digits>, not {digest!r:.100}.")
    if metadata is not None and not isinstance(metadata, dict):
        message = f"The metadata is a JSON {json_type(metadata)}, not an object."
        raise InvalidMetadataError(message, key=key)
    return Claim(key, metadata=None if metadata is None else check_metadata(metadata), **texts)


def finding_line(finding: Finding) -> bytes:
    """Return the line of an answer, without its end."""
    return dump_json({"key": finding.key, "status": finding.status, "revision": finding.revision})


def parse_finding(line: bytes, *, key: str) -> Finding:
    """Return what an answer says of *key*.

    Raises:
        TransportError: it says something else: the server speaks nonsense.
    """
    try:
        document = parse_object(line, what="finding")
    except InvalidRequestError as error:
        raise TransportError(f"The server sent no finding: {error.message}") from error
    status: Any = document.get("status")
    revision = document.get("revision")
    is_told = status in get_args(Status) and (revision is None or isinstance(revision, str))
    if document.get("key") != key or not is_told:
        raise TransportError(f"The server sent {line!r:.100} as what it has of {key!a:.100}.")
    return Finding(key, status, revision)
