"""What a VOSpace says of itself, in documents that are valid.

The letters beside cases say where they come from: S is the standard, P and C are the tests of
pyvospace and of opencadc/vos (cadc-test-vos), told as facts.
"""

from __future__ import annotations

import pytest

from tests.cases import each
from tests.gateways.vos_space import (
    Space,
    check,
    node,
    path_in,
)
from tests.server.sockets import ask

# -- what the service says of itself ---------------------------------------------------------------


@each("path", ["protocols", "views", "properties", "capabilities", "availability"])
def test_documents_of_the_service(space: Space, path: str) -> None:
    answer = space.ask("GET", f"/{path}")  # 1, 2, 3 P S
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    assert space.ask("HEAD", f"/{path}").status == 200
    assert space.fault("PUT", f"/{path}", body=b"x") == (405, "OperationNotSupported")


def test_capabilities_lead_to_what_is_there(space: Space) -> None:
    found = space.document("/capabilities")
    urls = {one.get("standardID"): one.findtext("interface/accessURL") for one in found}
    assert urls["ivo://ivoa.net/std/VOSpace/v2.0#nodes"] == f"{space.url}/vos/nodes"
    for url in urls.values():
        assert space.ask("OPTIONS", path_in(url)).status == 405


@each("path", ["", "/", "/other", "/nodesx", "/transfers/", "/views/x"])
def test_what_is_not_there(space: Space, path: str) -> None:
    assert space.ask("GET", path).status in (404, 200)
    assert space.ask("PATCH", "/nodes/n").status == 405


def test_the_host_is_what_the_client_says(space: Space) -> None:
    answer = ask(space.url, "GET", "/vos/capabilities")
    assert space.url.encode() in answer.body


@each(
    "wrong",
    [
        "<vos:node {}/>",
        '<vos:node {} uri="vos://a~b/c"><vos:magic/></vos:node>',
        '<vos:node {} xsi:type="vos:ContainerNode" uri="vos://a~b/c"/>',
        '<vos:node {} xsi:type="vos:LinkNode" uri="vos://a~b/c"/>',
        '<vos:node {} xsi:type="vos:Magic" uri="vos://a~b/c"/>',
    ],
)
def test_the_schema_refuses_what_is_wrong(wrong: str) -> None:
    names = node("n").partition("<vos:node ")[2].partition(" xsi:type")[0]
    with pytest.raises(Exception, match=r"failed|not"):
        check(wrong.format(names).encode())
