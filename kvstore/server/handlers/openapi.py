"""``/openapi.json``: what this server serves, as a description for programs (OpenAPI 3.1).

The text is in ``schemas/openapi.json``, for a server that can do everything. This takes from it
what one server has: its routes, the abilities of its store, its limits. The extra words there are
``x-needs`` (what is left out where the server has not that ability; ``!`` turns it round),
``x-errors`` (statuses of ``components.responses``, each with what it needs behind a ``?``),
``x-name`` (what the ``operationId`` of a path ends with), and ``{limit:NAME}`` in texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

from kvstore.documents import JsonObject, dump_json
from kvstore.keys import MAX_KEY_BYTES
from kvstore.profiles.problems import MEDIA_TYPE
from kvstore.server.answers import REVALIDATE, SAFE, NotAllowedError, Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.routes import allow, options
from kvstore.server.site import Site
from kvstore.version import __version__

#: What any request may be answered with.
_ALWAYS = ("400", "408", "414", "431", "500", "503")
#: And where callers are told apart; a method that changes something may be forbidden anyhow.
_OF_ACCESS = ("401", "403", "429")
_OF_CHANGES = ("403",)
_READS = frozenset({"get", "head", "options"})
#: Of the description itself.
_METHODS = ("GET", "HEAD")
#: Schemas that have a use of their own, and so files of their own.
_SHARED = {"Metadata": "metadata", "Permissions": "permissions", "Service": "service"}
_RESPONSES = "#/components/responses/"
_LIMIT = re.compile(r"\{limit:(\w+)\}")
_ABSENT: Any = object()


class Description:
    """The description of one application. Made when it is first asked for.

    Args:
        routes: the methods of each path; ``{key}``, ``{upload}`` and ``{file}`` stand for names.
        site: what it serves.
        abilities: called for its capabilities, and for which of these words hold: ``permissions``
            (keys have some), ``access`` (callers are told apart), ``public`` (not all need be).
    """

    def __init__(
        self,
        routes: Mapping[str, Iterable[str]],
        site: Site,
        abilities: Callable[[], Iterable[str]],
    ) -> None:
        self._routes = routes
        self._paths = asdict(site.paths)
        self._limits = {**asdict(site.limits), "key": MAX_KEY_BYTES}
        self._ask = abilities
        self._abilities: frozenset[str] = frozenset()
        self._body = b""

    def reply(self, exchange: Exchange) -> Reply:
        """Answer GET and HEAD: 200, to everybody: it has no data, and says how one signs in.

        Raises:
            NotAllowedError: another method.
        """
        exchange.route = "service"
        if exchange.method == "OPTIONS":
            return options(_METHODS)
        if exchange.method not in _METHODS:
            raise NotAllowedError(exchange.method, allow(_METHODS))
        # Callers may be told apart from some moment on. It takes some milliseconds, once.
        if not self._body or self._abilities != frozenset(self._ask()):
            self._body = dump_json(self.document())
        kind = (b"content-type", b"application/json")
        return Reply(200, [kind, *SAFE, REVALIDATE, length_field(len(self._body))], self._body)

    def document(self) -> JsonObject:
        """Return the description.

        Raises:
            KeyError: a route that nothing is written of.
        """
        self._abilities = frozenset(self._ask())
        document: JsonObject = self._kept(_template())
        document["info"]["version"] = __version__
        components = document["components"]
        components["schemas"] |= {name: _shared(name, file) for name, file in _SHARED.items()}
        problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for status, response in components["responses"].items():
            _name_request(response)
            if int(status) >= 400:
                response["content"] = problem
        if "access" in self._abilities:
            # An empty requirement says that it goes without.
            document["security"] = [{"bearer": []}, *([{}] if "public" in self._abilities else [])]
        written = {self._expanded(path): item for path, item in document["paths"].items()}
        document["paths"] = {
            path: self._item(path, written[path], methods, components["responses"])
            for path, methods in self._routes.items()
        }
        _leave_used(document)
        return document

    def _expanded(self, path: str) -> str:
        for name, its in self._paths.items():
            path = path.replace(f"{{{name}}}", its)
        return path

    def _item(
        self, path: str, written: JsonObject, methods: Iterable[str], responses: JsonObject
    ) -> JsonObject:
        name = written["x-name"]
        item: JsonObject = {}
        if written.get("parameters"):
            item["parameters"] = written["parameters"]
        for method in dict.fromkeys([*(method.lower() for method in methods), "options"]):
            if method == "head" and "head" not in written:
                item[method] = _without_content(item["get"], responses)
            elif method == "options" and "options" not in written:
                item[method] = self._operation(_options(), method)
            else:
                item[method] = self._operation(written[method], method)
            item[method]["operationId"] = f"{method}{name}"
        return item

    def _operation(self, written: JsonObject, method: str) -> JsonObject:
        operation = {**written, "responses": {**written["responses"]}}
        statuses = [*_ALWAYS, *self._needed(operation.pop("x-errors", []))]
        if "access" in self._abilities and operation.get("security") != []:
            statuses += _OF_ACCESS
        if method not in _READS:
            statuses += _OF_CHANGES
        for response in operation["responses"].values():
            _name_request(response)
        for status in sorted(set(statuses)):
            operation["responses"][status] = {"$ref": f"{_RESPONSES}{status}"}
        return operation

    def _needed(self, statuses: Iterable[str]) -> Iterable[str]:
        for entry in statuses:
            status, _, need = entry.partition("?")
            if not need or self._has(need):
                yield status

    def _has(self, need: str) -> bool:
        name = need.removeprefix("!")
        return (name in self._abilities) != need.startswith("!")

    def _kept(self, node: Any) -> Any:
        """Return a copy of what the server has, with its limits in the texts."""
        if isinstance(node, str):
            return _LIMIT.sub(lambda found: str(self._limits[found[1]]), node)
        if isinstance(node, list):
            kept = map(self._kept, node)
            return [item for item in kept if item is not _ABSENT]
        if not isinstance(node, dict):
            return node
        if "x-needs" in node and not self._has(node["x-needs"]):
            return _ABSENT
        members = {name: self._kept(item) for name, item in node.items() if name != "x-needs"}
        return {name: item for name, item in members.items() if item is not _ABSENT}


def _template() -> JsonObject:
    source = resources.files("kvstore") / "schemas" / "openapi.json"
    template: JsonObject = json.loads(source.read_text(encoding="utf-8"))
    return template


def _shared(name: str, file: str) -> JsonObject:
    """Return a schema of the package as a component: what it refers to in itself is moved, too."""
    source = resources.files("kvstore") / "schemas" / f"{file}.schema.json"
    place = f"#/components/schemas/{name}/$defs/"
    schema: JsonObject = json.loads(source.read_text("utf-8").replace("#/$defs/", place))
    del schema["$schema"], schema["$id"]
    return schema


def _leave_used(document: JsonObject) -> None:
    """Take out the components that nothing on the way from the paths refers to."""
    components, used = document["components"], set()
    seen: list[Any] = [document["paths"]]
    while seen:
        node = seen.pop()
        if isinstance(node, list):
            seen += node
        elif isinstance(node, dict):
            seen += node.values()
            _, _, place = str(node.get("$ref", "")).partition("#/components/")
            kind, _, name = place.partition("/")
            if name and (kind, name.partition("/")[0]) not in used:
                name = name.partition("/")[0]
                used.add((kind, name))
                seen.append(components[kind][name])
    for kind in components.keys() - {"securitySchemes"}:
        components[kind] = {
            name: its for name, its in components[kind].items() if (kind, name) in used
        }


def _name_request(response: JsonObject) -> None:
    if "$ref" not in response:
        name = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        response["headers"] = {**response.get("headers", {}), **name}


def _without_content(operation: JsonObject, responses: JsonObject) -> JsonObject:
    """Return HEAD for a GET: the same header, and no body whatever the status."""
    answers = {}
    for status, response in operation["responses"].items():
        whole = responses[status] if "$ref" in response else response
        answers[status] = {name: its for name, its in whole.items() if name != "content"}
    summary = f"{operation['summary']}: the header alone"
    return {**operation, "summary": summary, "responses": answers}


def _options() -> JsonObject:
    allow = {"Allow": {"$ref": "#/components/headers/Allow"}}
    response = {"description": "They are in the header.", "headers": allow}
    return {
        "tags": ["server"],
        "summary": "Tell the methods",
        "security": [],
        "responses": {"204": response},
    }
