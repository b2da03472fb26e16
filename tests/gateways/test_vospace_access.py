"""Who may do what over VOSpace: what the permissions of keys say, as everywhere else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.gateways.vospace import VospaceGateway
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.gateways.vos_space import (
    IDENTIFIER,
    ROOT,
    Space,
    endpoints_in,
    message_of,
    node,
    path_in,
    phase_of,
    results_of,
    transfer,
)
from tests.server.access import Lab, lab_of


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    gateways = [VospaceGateway(IDENTIFIER)]
    folder = tmp_path_factory.mktemp("lab")
    with lab_of(MemoryStore(), folder, public_read=True, gateways=gateways) as lab:
        ada = _as(lab, "ada")
        ada.make("lab/", "lab/open", "lab/group", "lab/secret", "secret/", "secret/x")
        ada.post("lab", "ContainerNode", properties={"ispublic": "true"})
        ada.post("lab/open", properties={"ispublic": "true"})
        ada.post("lab/group", properties={"groupread": "team", "groupwrite": "editors"})
        yield lab


def _as(lab: Lab, name: str | None, **options: Any) -> Space:
    if name is None:
        return Space(lab.url)
    lab.token(name, **options)
    return Space(lab.url, (lab.line(name),))


def test_a_node_that_may_not_be_seen_is_not_there(lab: Lab) -> None:
    bob = _as(lab, "bob")
    assert bob.children() == ["lab"]
    assert bob.children("lab") == ["open"]  # 33 C
    for path in ("lab/secret", "secret", "secret/x", "lab/nothing"):
        assert bob.fault("GET", f"/nodes/{path}") == (404, "NodeNotFound")
        assert bob.fault("GET", f"/files/{path}") == (404, "NodeNotFound")
        assert bob.fault("DELETE", f"/nodes/{path}") == (404, "NodeNotFound")
    assert "groupread" not in bob.properties("lab/open")


def test_what_is_not_allowed_is_denied(lab: Lab) -> None:
    bob = _as(lab, "bob")
    denied = (403, "PermissionDenied")
    assert bob.fault("PUT", "/files/lab/open", body=b"x") == denied
    assert bob.fault("PUT", "/files/lab/secret", body=b"x") == denied  # that name is taken
    assert bob.fault("PUT", "/nodes/lab/secret", body=node("lab/secret")) == denied
    assert bob.fault("DELETE", "/nodes/lab/open") == denied
    assert bob.fault("DELETE", "/nodes/lab") == denied
    for properties in ({"title": "mine"}, {}):  # the second one changes nothing
        body = node("lab/open", properties=properties)
        assert bob.fault("POST", "/nodes/lab/open", body=body) == denied
    assert lab.store.to_bytes("lab/open") == b"lab/open"


def test_groups_are_tags(lab: Lab) -> None:
    eve = _as(lab, "eve", tags=["team"])
    assert eve.bytes_of("lab/group") == b"lab/group"
    assert eve.children("lab") == ["group", "open"]
    assert eve.fault("PUT", "/files/lab/group", body=b"x") == (403, "PermissionDenied")
    joe = _as(lab, "joe", tags=["editors", "team"])
    assert joe.post("lab/group", properties={"title": "edited"}).status == 200
    refused = joe.fault(
        "POST", "/nodes/lab/group", body=node("lab/group", properties={"ispublic": "true"})
    )
    assert refused == (403, "PermissionDenied")


def test_what_is_made_is_the_callers(lab: Lab) -> None:
    bob = _as(lab, "bob")
    assert bob.upload("lab/bobs", b"data").status == 201  # who may make a key may do so anywhere
    assert lab.store.get_permissions("lab/bobs") == {"owned": {"bob"}}
    assert _as(lab, "ada").fault("GET", "/nodes/lab/bobs") == (404, "NodeNotFound")
    properties = {"ispublic": "true", "groupwrite": "team"}
    assert bob.put("lab/shared", properties=properties).status == 201
    permissions = {"owned": {"bob"}, "read": {"public"}, "write": {"team"}}
    assert lab.store.get_permissions("lab/shared") == permissions
    assert bob.ask("DELETE", "/nodes/lab/bobs").status == 204
    assert bob.ask("DELETE", "/nodes/lab/shared").status == 204


def test_nobody_reads_what_is_public(lab: Lab) -> None:
    nobody = _as(lab, None)
    assert nobody.children("lab") == ["open"]
    assert nobody.bytes_of("lab/open") == b"lab/open"
    answer = nobody.ask("PUT", "/files/lab/x", body=b"data")
    assert (answer.status, answer.body.split()[0]) == (401, b"NotAuthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = nobody.ask(
        "POST", "/synctrans", body=transfer("lab/open", "pullFromVoSpace", "httpget")
    )
    (endpoint,) = endpoints_in(nobody.document(nobody.path_of(answer)))
    assert nobody.ask("GET", path_in(endpoint)).body == b"lab/open"


def test_a_token_may_be_a_password(lab: Lab) -> None:
    told = base64.b64encode(f"ada:{lab.token('ada')}".encode()).decode()
    ada = Space(lab.url, (f"Authorization: Basic {told}",))
    assert ada.children("secret") == ["x"]
    assert Space(lab.url, ("Authorization: Bearer no",)).fault("GET", "/nodes")[0] == 401


def test_a_token_to_read_with(lab: Lab) -> None:
    reader = _as(lab, "reader", scopes=["read"])
    assert reader.bytes_of("lab/open") == b"lab/open"
    assert reader.fault("PUT", "/nodes/lab/x", body=node("lab/x")) == (403, "PermissionDenied")
    answer = reader.ask("POST", "/synctrans", body=transfer("lab/x", "pushToVoSpace", "httpput"))
    assert endpoints_in(reader.document(reader.path_of(answer))) == []
    job = reader.run("transfers", transfer("lab/open", "lab/copy", keeps="true"))
    assert phase_of(job) == "ERROR"


FAILED = [
    (transfer("lab/secret", "pullFromVoSpace", "httpget"), "NodeNotFound"),
    (transfer("lab/open", "pushToVoSpace", "httpput"), "PermissionDenied"),
    (transfer("lab/secret", "pushToVoSpace", "httpput"), "PermissionDenied"),
]


@each("body, fault", FAILED)
def test_transfers_without_permission(lab: Lab, body: str, fault: str) -> None:
    bob = _as(lab, "bob")
    answer = bob.ask("POST", "/synctrans", body=body)  # 65 C S
    assert answer.status == 303
    path = bob.path_of(answer)
    assert endpoints_in(bob.document(path)) == []
    job = path.removesuffix("/results/transferDetails")
    assert bob.ask("GET", f"{job}/error").body == fault.encode()
    assert _as(lab, "ada").fault("GET", job) == (404, "NodeNotFound")  # it is not hers


def test_moving_and_copying_what_is_not_ones_own(lab: Lab) -> None:
    bob = _as(lab, "bob")
    job = bob.run("transfers", transfer("lab/open", "bobs-copy", keeps="true"))
    assert phase_of(job) == "COMPLETED"
    assert lab.store.get_permissions("bobs-copy") == {"owned": {"bob"}}
    bob.ask("DELETE", "/nodes/bobs-copy")
    assert message_of(bob.run("transfers", transfer("lab/open", "mine", keeps="false"))) == (
        "Permission Denied"
    )
    joe = _as(lab, "joe", tags=["editors", "team"])  # who may write, but is no owner
    job = joe.run("transfers", transfer("lab/group", "joes", keeps="false"))
    assert message_of(job) == "Permission Denied"
    assert not lab.store.exists("joes")
    assert lab.store.exists("lab/group")


def test_a_move_keeps_permissions(lab: Lab) -> None:
    ada = _as(lab, "ada")
    before = lab.store.get_permissions("lab/group")
    assert (
        phase_of(ada.run("transfers", transfer("lab/group", "moved", keeps="false"))) == "COMPLETED"
    )
    assert lab.store.get_permissions("moved") == before
    assert (
        phase_of(ada.run("transfers", transfer("moved", "lab/group", keeps="false"))) == "COMPLETED"
    )


def test_trees_are_changed_as_far_as_one_may(lab: Lab) -> None:
    ada, bob = _as(lab, "ada"), _as(lab, "bob")
    ada.make("mixed/", "mixed/a")
    for path, kind in [("mixed", "ContainerNode"), ("mixed/a", "DataNode")]:
        ada.post(path, kind, properties={"ispublic": "true"})
    bob.upload("mixed/b", b"data")
    body = node("mixed", "ContainerNode", properties={"urn:x:y": "z"})
    job = bob.run("async-setprops", body)
    assert results_of(job) == {"successcount": "final:1", "errorcount": "final:2"}
    job = bob.run("async-delete", f"target={ROOT}/mixed")  # 79 C
    assert phase_of(job) == "ABORTED"
    assert results_of(job) == {"successcount": "final:1", "errorcount": "final:2"}
    job = bob.run("async-delete", f"target={ROOT}/mixed")  # 80 C
    assert (phase_of(job), results_of(job)) == ("ERROR", {})
    ada.ask("DELETE", "/nodes/mixed")


def test_who_may_delete_a_part_deletes_nothing_of_the_whole(lab: Lab) -> None:
    ada, bob = _as(lab, "ada"), _as(lab, "bob")
    ada.make("whole/", "whole/z")
    for path, kind in [("whole", "ContainerNode"), ("whole/z", "DataNode")]:
        ada.post(path, kind, properties={"ispublic": "true"})
    bob.upload("whole/b", b"data")
    assert bob.fault("DELETE", "/nodes/whole") == (403, "PermissionDenied")
    assert bob.children("whole") == ["b", "z"]  # MemoryStore has transactions
    ada.ask("DELETE", "/nodes/whole")
    bob.ask("DELETE", "/nodes/whole")


def test_everybody_may_know_where_things_are(tmp_path: Path) -> None:
    # The client asks for that without its token.
    with lab_of(MemoryStore(), tmp_path, gateways=[VospaceGateway(IDENTIFIER)]) as lab:
        nobody = _as(lab, None)
        assert nobody.ask("GET", "/capabilities").status == 200
        assert nobody.fault("GET", "/nodes")[0] == 401
        assert nobody.fault("POST", "/synctrans", body=b"x")[0] == 401
