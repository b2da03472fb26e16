"""What a server answered, read as the operation of its profile says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvstore.documents import JsonObject, check_metadata, parse_json
from kvstore.errors import (
    InvalidMetadataError,
    InvalidRequestError,
    StoreError,
    TooLargeError,
    TransportError,
)
from kvstore.profiles.facts import Place, at_pointer, lacking, read_facts
from kvstore.profiles.operations import Operation
from kvstore.profiles.problems import visible
from kvstore.profiles.statuses import ANSWERS, EMPTY, error_for
from kvstore.transport.bodies import MAX_DOCUMENT, Answer
from kvstore.transport.exchange import Request
from kvstore.transport.mapped.decoding import coding_of
from kvstore.writes import missing

#: Bytes of the body of a refusal that are looked at.
_REFUSAL = 1 << 16


class Reply:
    """The answer to one operation. Its body is to be read or closed, as that of an `Answer`.

    Args:
        sent: ``query:NAME`` and ``header:NAME`` to the values that were sent, not yet spelled.
    """

    def __init__(
        self, answer: Answer, operation: Operation, request: Request, sent: Mapping[str, Any]
    ) -> None:
        self.answer = answer
        self.operation = operation
        self.key = request.key
        self._request = request
        self.sent = sent
        self.outcome = ""
        self._text: str | None = None
        self._document: Any = None
        self._is_done = False
        self._version: str | None = None

    def judge(self, error_message: tuple[Place, ...]) -> None:
        """Find out what the status means.

        Raises:
            StoreError: what it means, if it is no answer; with what the server says of it.
        """
        status, statuses = self.answer.status, self.operation.statuses
        is_data = self.operation.name == "get" and status < 300
        text = self._refusal() if statuses.needs_body(status) and not is_data else ""
        self.outcome = statuses.meaning(status, text)
        if self.outcome in ANSWERS:
            return
        said = self._said(error_message)
        message = f"{visible(said)} ({self._request}: HTTP {status})."
        self.answer.finish()
        raise error_for(self.outcome, message, key=self.key, status=status)

    @property
    def is_empty(self) -> bool:
        """Whether the key is there, and has no data yet."""
        return self.outcome == EMPTY

    def find(self, place: Place) -> Any:
        """Return what stands at a place of the answer, None if nothing does."""
        if place.kind == "header":
            if place.name.lower() == "content-length" and coding_of(self.answer) is not None:
                return None  # that of the encoded bytes
            return self.answer.headers.get(place.name)
        if place.kind == "text":
            return self.text()
        return at_pointer(self.document(), place.name) if place.kind == "json" else None

    def told(self) -> dict[str, Any]:
        """Return the facts that are told, in the body only if it is no data.

        Raises:
            KeyNotFoundError: a required one is not: it is no key that is there.
            TransportError: they are not spelled as the profile says.
        """
        facts = self.operation.facts
        if self.operation.name == "get":
            kinds = ("header", "const")
            facts = {name: fact for name, fact in facts.items() if fact.place.kind in kinds}
        try:
            told = read_facts(facts, self.find)
            if self.is_empty:
                told["size"] = 0
            elif self.key is not None and lacking(facts, told) is not None:
                raise missing(self.key)
        except StoreError:
            self.answer.close()
            raise
        return told

    def version(self) -> str | None:
        """Return the version that the answer to a write tells, if it does, and be done with it."""
        if not self._is_done:
            fact = self.operation.facts.get("version")
            told = None
            try:
                if fact is not None and (fact.place.kind == "header" or self.answer.status != 204):
                    told = read_facts({"version": fact}, self.find).get("version")
            finally:
                self._is_done = True
                self.answer.finish()
            self._version = None if told is None else str(told)
        return self._version

    def load(self) -> None:
        """Read the body, if facts may stand in it, and be done with it."""
        places = [fact.place for fact in self.operation.facts.values()]
        if any(place.kind in ("json", "text") for place in places) and not self.is_empty:
            self.text()
        self.answer.finish()

    def text(self) -> str:
        """Return the body, which is small, as text.

        Raises:
            TransportError: it is not small, or no UTF-8.
        """
        if self._text is None:
            try:
                self._text = self.answer.read(MAX_DOCUMENT).decode("utf-8")
            except UnicodeDecodeError as error:
                raise self.answer.refused("is no UTF-8 text") from error
        return self._text

    def document(self) -> Any:
        """Return the body as JSON.

        Raises:
            TransportError: it is none.
        """
        if self._document is None:
            try:
                self._document = parse_json(self.text().encode(), what="answer")
            except InvalidRequestError as error:
                raise TransportError(
                    f"The server sent no JSON for {self.operation.name!r}: {error.message}",
                    key=self.key,
                ) from error
        return self._document

    def _refusal(self) -> str:
        if self._text is None:
            try:
                self._text = self.answer.read(_REFUSAL).decode("utf-8", "replace")
            except TransportError:
                self._text = ""  # the status is what counts; no page about it can hide it
        return self._text

    def _said(self, places: tuple[Place, ...]) -> str:
        for place in places:
            try:
                said = self._refusal() if place.kind == "text" else self.find(place)
            except TransportError:
                continue
            if isinstance(said, str) and said.strip() and not said.lstrip().startswith("<"):
                return said.strip().removesuffix(".")
        if self.outcome == "missing" and self.key is not None:
            return f"There is no key {self.key!a}"
        return f"The server refused {self.operation.name!r}"


def checked_metadata(document: Any, key: str) -> JsonObject:
    """Return metadata that came from a server.

    Raises:
        TransportError: they are none.
    """
    try:
        return check_metadata(document)
    except (InvalidMetadataError, TooLargeError) as error:
        raise TransportError(f"The server sent no metadata: {error.message}", key=key) from error
