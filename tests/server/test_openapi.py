from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import kvstore
from kvstore.server import Limits, create_app, serve_background
from kvstore.server.access.callers import Access
from kvstore.server.browser.pages import pages
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.version import __version__
from tests.server.sockets import ask

METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE")
FILE = next(path for path in pages() if path != "/").removeprefix("/-/browser/")
NAMES = {"{key}": "a", "{upload}": "none", "{file}": FILE}
#: Nothing of how or where the server runs is for those who ask.
LEAKS = (
    b"Traceback",
    b"File \\",
    b".py",
    b"site-packages",
    str(Path(__file__).parents[2]).encode(),
)


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[str]:
    store: Any = MemoryStore(user_tag="ann")
    if kind == "sqlite":
        store = SQLiteStore(folder / "store")
    elif kind == "files":
        store = kvstore.FileSystemStore(folder / "store")
    elif kind == "read only":
        store = kvstore.ReadOnly(store)
    with store, serve_background(store) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "files", "read only"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a server over each kind of store."""
    with serving(request.param, tmp_path) as url:
        yield url


def description(url: str) -> Any:
    answer = ask(url, "GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return json.loads(answer.body)


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method.upper() in METHODS:
                yield path, method.upper(), operation


def named(path: str) -> str:
    for name, text in NAMES.items():
        path = path.replace(name, text)
    return path


def nodes(node: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    yield pointer, node
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for name, member in members:
        if isinstance(member, (dict, list)):
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield from nodes(member, f"{pointer}/{step}")


def checker(document: Any) -> Callable[[str, Any], None]:
    """Return what checks something by the schema at a place of the description."""
    resource = DRAFT202012.create_resource(document)
    registry: Registry[Any] = Registry().with_resource("urn:description", resource).crawl()

    def check(pointer: str, instance: Any) -> None:
        schema = {"$ref": f"urn:description#{pointer}"}
        jsonschema.Draft202012Validator(schema, registry=registry).validate(instance)

    return check


# -- the document itself -------------------------------------------------------------------


def test_it_is_openapi(tmp_path: Path) -> None:
    definitions = pytest.importorskip("schemathesis.specs.openapi.definitions")
    for kind in ("memory", "sqlite", "files", "read only"):
        with serving(kind, tmp_path / kind) as url:
            document = description(url)
        definitions.OPENAPI_31_VALIDATOR.validate(document)
        assert document["info"]["version"] == __version__
        names = [operation["operationId"] for _, _, operation in operations(document)]
        assert len(set(names)) == len(names)
        for pointer, node in nodes(document):
            if not isinstance(node, dict):
                continue
            if "$ref" in node and isinstance(node["$ref"], str):
                assert node["$ref"].startswith("#/")
                found: Any = document
                for step in node["$ref"].removeprefix("#/").split("/"):
                    assert step in found, f"{node['$ref']} at {pointer}"
                    found = found[step]
            assert not {"x-needs", "x-errors", "x-name"} & set(node), pointer
        assert "{limit:" not in json.dumps(document)
        tags = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
        assert tags == {tag["name"] for tag in document["tags"]}


def test_every_example_fits_its_schema(url: str) -> None:
    document = description(url)
    check = checker(document)
    count = 0
    for pointer, node in nodes(document):
        if "/example" in pointer or not isinstance(node, dict):
            continue
        samples = node.get("examples", {})
        if "schema" in node:
            found = [node["example"]] if "example" in node else []
            found += [sample["value"] for sample in samples.values()]
            place = f"{pointer}/schema"
        else:
            found, place = samples if isinstance(samples, list) else [], pointer
        for instance in found:
            check(place, instance)
            count += 1
    assert count > 50


def test_schemas_of_the_package_are_the_same_there(url: str) -> None:
    document = description(url)
    check = checker(document)
    check("/components/schemas/Metadata", {"a": [{"b": None}]})
    service = ask(url, "GET", "/.well-known/kvstore")
    check("/components/schemas/Service", json.loads(service.body))
    for name, wrong in [("Permissions", {"owned": [""]}), ("Metadata", [1])]:
        with pytest.raises(jsonschema.ValidationError):
            check(f"/components/schemas/{name}", wrong)


def test_limits_and_paths_are_those_of_the_server() -> None:
    limits = Limits(data=123_457, metadata=2345, page=17, changes=19, batch=13)
    with MemoryStore() as store:
        app = create_app(store, limits=limits, base="/k", query="/q", uploads="/more/u")
        with running(app) as url:
            document = description(url)
            assert ask(url, "GET", "/openapi.json/x").status == 404
    paths = {"/k/{key}/data", "/k/{key}", "/q", "/more/u", "/more/u/{upload}"}
    assert paths <= document["paths"].keys()
    text = json.dumps(document)
    assert all(f"at most {most}" in text.lower() for most in (123_457, 2345, 17, 19, 13, 1024))
    with pytest.raises(kvstore.InvalidRequestError, match="/openapi"):
        create_app(MemoryStore(), query="/openapi.json")


# -- what it says of the server ------------------------------------------------------------


def test_routes_and_methods_are_those_that_are_described(served: str) -> None:
    document = description(served)
    for path, item in document["paths"].items():
        described = {method.upper() for method in item if method.upper() in METHODS}
        target = named(path)
        allow = ask(served, "OPTIONS", target).headers["Allow"]
        assert set(allow.split(", ")) == described, path
        for method in METHODS:
            if method == "DELETE" and "/{key}/" in path:
                continue  # deletes the key that ends in the name of the part
            status = ask(served, method, target).status
            assert (status == 405) == (method not in described), (method, path)


def test_nothing_is_left_out_of_the_description(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store") as store:
        app = create_app(store)
        with running(app) as url:
            described = set(description(url)["paths"])
        parts = {f"/keys/{{key}}/{part}" for part in app._parts}
        assert {*app._paths, *app._probes, *parts, "/keys/{key}", "/uploads/{upload}"} <= described
        others = {path for path in app._pages if not path.startswith("/-/browser/")}
        assert others == {"/", "/openapi.json"}
        assert app.routes == []


@pytest.mark.parametrize("kind", ["memory", "read only"])
def test_what_is_refused_is_described_and_tells_nothing_else(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path) as url:
        check_refusals(url)


def check_refusals(url: str) -> None:
    document = description(url)
    check = checker(document)
    paths = ["/nothing", "/keys", "/keys/a/nothing", "/uploads/a/b", "/static/../x"]
    paths += document["paths"]
    lines = ['If-Match: "x', "Range: bytes=9-", "Content-Range: x", "Tus-Resumable: 1.0.0"]
    for path in paths:
        for method in METHODS:
            for given in ([], lines, [*lines, "Content-Encoding: x"], ["Origin: http://x.example"]):
                answer = ask(url, method, f"{named(path)}?%24x=%ff", *given, body=b"{")
                if answer.status < 400:
                    continue
                assert answer.status < 500 or answer.status == 501, (method, path, given)
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Request-Id"]
                assert not any(leak in answer.body for leak in LEAKS)
                if method == "HEAD":
                    assert answer.body == b""
                    continue
                problem = answer.problem
                check("/components/schemas/Problem", problem)
                operation = document["paths"].get(path, {}).get(method.lower())
                assert operation is None or str(answer.status) in operation["responses"]


def test_who_must_be_let_in_for_what() -> None:
    for is_public in (False, True):
        access = Access([], public_read=is_public)
        with MemoryStore() as store, serve_background(store, access=access) as url:
            document = description(url)  # for everybody: it says how one signs in
            assert document["security"] == [{"bearer": []}, *([{}] if is_public else [])]
            assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
            for path, method, operation in operations(document):
                answer = ask(url, method, named(path), "Authorization: Bearer wrong")
                if operation.get("security") == []:
                    assert answer.status != 401, (method, path)
                else:
                    assert answer.status in (401, 429), (method, path)
                    assert str(answer.status) in operation["responses"]
                if answer.status == 401:
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    with MemoryStore() as store, serve_background(store) as url:
        document = description(url)
    assert "security" not in document
    assert "securitySchemes" not in document["components"]


def test_what_a_store_cannot_do_is_not_described(tmp_path: Path) -> None:
    with serving("read only", tmp_path) as url:
        document = description(url)
    assert {method for _, method, _ in operations(document)} <= {"GET", "HEAD", "OPTIONS", "POST"}
    assert [path for path, method, _ in operations(document) if method == "POST"] in ([], ["/have"])
    assert "/uploads" not in document["paths"]
    assert "Operation" not in document["components"]["schemas"]


# -- lines of answers ----------------------------------------------------------------------


def test_lines_of_answers_and_requests_fit_their_schemas(
    tmp_path: Path, web: requests.Session
) -> None:
    stores = [MemoryStore(keep_versions=3), SQLiteStore(tmp_path / "store", keep_versions=3)]
    for store in stores:
        with store, serve_background(store) as url:
            check_lines(url, web)


def check_lines(url: str, web: requests.Session) -> None:
    document = description(url)
    check = checker(document)
    ndjson = "application/x-ndjson"

    def lines(method: str, path: str, parameters: str = "", **options: Any) -> int:
        answer = web.request(method, f"{url}{named(path)}{parameters}", **options)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, ndjson)
        place = f"/paths/{path.replace('/', '~1')}/{method.lower()}/responses/200/content"
        for line in answer.content.splitlines():
            check(f"{place}/application~1x-ndjson/x-item-schema", json.loads(line))
        return len(answer.content.splitlines())

    operations = [
        {"op": "set", "key": "a/1", "data": base64.b64encode(b"x").decode(), "metadata": {"n": 1}},
        {"op": "set_metadata", "key": "b", "metadata": {}, "if_none_match": "*"},
        {"op": "delete", "key": "b"},
    ]
    for operation in operations:
        check("/components/schemas/Operation", operation)
    assert lines("POST", "/batch", data="\n".join(map(json.dumps, operations))) == 3
    web.put(f"{url}/keys/a/data", data=b"abc", headers={"Content-Type": "text/plain"})
    for parameters, count in [("", 2), ("?$limit=1", 1), ("?$select=n", 2), ("?$delimiter=/", 2)]:
        assert lines("GET", "/query", parameters, headers={"Accept": ndjson}) == count
    assert lines("GET", "/changes") == 4
    claim = {"key": "a", "digest": f"sha256:{hashlib.sha256(b'abc').hexdigest()}"}
    check("/components/schemas/Claim", claim)
    assert lines("POST", "/have", data=json.dumps(claim)) == 1
    web.put(f"{url}/keys/a/metadata", json={"n": 2})
    assert lines("GET", "/keys/{key}/versions") == 2
    answer = web.get(f"{url}/keys/a/value")
    check("/components/schemas/Record", json.loads(answer.content.split(b"\n")[0]))
    check("/components/schemas/Count", web.get(f"{url}/query?$count=true").json())
