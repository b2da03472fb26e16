"""All gateways over one store: what one client writes the others see, and who may see it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlencode

import pytest

import kvstore
from kvstore.errors import KeyNotFoundError
from kvstore.gateways.datasafe import DatasafeGateway
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.gateways.meteorpi import MeteorpiGateway
from kvstore.gateways.vospace import VospaceGateway
from kvstore.stores.sqlite import SQLiteStore
from tests.gateways.datasets import FAMILY, FILES, archive, unpacked
from tests.gateways.meteorpi_camera import Camera, Exporter
from tests.server.access import Lab, lab_of
from tests.server.sockets import Answer

VERSION = "?last_modified=Thu%2C%2001%20Jan%202026%2000%3A00%3A00%20-0000"
#: Newer than what anybody writes meanwhile.
LATER = "?" + urlencode({"last_modified": formatdate(time.time() + 3600)})


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    gateways = [FiletrackerGateway(), DatasafeGateway(), MeteorpiGateway(), VospaceGateway()]
    with lab_of(SQLiteStore(tmp_path / "store"), tmp_path, gateways=gateways) as lab:
        lab.token("ann")
        lab.token("bob")
        yield lab


def written(lab: Lab, user: str) -> dict[str, bytes]:
    """Have *user* write by every way there is; return what is to be found then."""
    assert lab.ask(user, "PUT", "/keys/own/k/data", body=b"ours").status == 201
    assert lab.ask(user, "PUT", f"/filetracker/files/ft/k{VERSION}", body=b"tracked").status == 200
    container = (
        '<vos:node xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" uri="vos://kvstore~vos/vos" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="vos:ContainerNode"/>'
    )
    assert lab.ask(user, "PUT", "/vos/nodes/vos", body=container.encode()).status == 201
    assert lab.ask(user, "PUT", "/vos/files/vos/k", body=b"observed").status == 201
    loi = lab.ask(user, "POST", f"/datasafe/api/{FAMILY}").body.decode()
    assert lab.ask(user, "PUT", f"/datasafe/api/{loi}", body=archive(FILES)).status == 200
    camera = Camera()
    picture = camera.file(b"picture")
    exporter = Exporter(f"{lab.url}/meteorpi/import", camera, lab.token(user))
    assert exporter.export(picture) == "complete"
    return {
        "own/k": b"ours",
        "ft/k": b"tracked",
        "vos/k": b"observed",
        f"{loi}/run.dat": FILES["run.dat"],
        f"meteorpi/files/{picture}": b"picture",
    }


def tracked(answer: Answer) -> bytes:
    is_packed = answer.headers["Content-Encoding"] == "gzip"
    return gzip.decompress(answer.body) if is_packed else answer.body


def by_each(lab: Lab, user: str, key: str) -> list[tuple[int, bytes]]:
    """Read a key by every way there is that has one URL for it."""
    quoted = key.replace("/", "%2F")
    tracker = lab.ask(user, "GET", f"/filetracker/files/{key}")
    found = [(tracker.status, tracked(tracker))]
    for target in (f"/keys/{quoted}/data", f"/vos/files/{key}"):
        answer = lab.ask(user, "GET", target)
        found.append((answer.status, answer.body))
    return found


def keys_of(lab: Lab, user: str) -> set[str]:
    with kvstore.open(lab.url, token=lab.token(user)) as store:
        return set(store.query_keys())


def listed(lab: Lab, user: str) -> set[str]:
    answer = lab.ask(user, "GET", "/filetracker/list/")
    return set(answer.body.decode().splitlines())


def test_what_one_writes_all_see(lab: Lab) -> None:
    found = written(lab, "ann")
    for key, data in found.items():
        assert by_each(lab, "ann", key) == [(200, data)] * 3
        assert lab.store.to_bytes(key) == data
        assert lab.store.get_permissions(key)["owned"] == {"ann"}
    assert found.keys() <= keys_of(lab, "ann")
    assert found.keys() <= listed(lab, "ann")
    root = lab.ask("ann", "GET", "/vos/nodes").body.decode()
    for folder in ("own", "ft", "vos", "meteorpi", "42.1001"):
        assert f"vos://kvstore~vos/{folder}" in root


def test_what_one_changes_is_changed_for_all(lab: Lab) -> None:
    lab.put("ann", "k")
    assert lab.ask("ann", "PUT", f"/filetracker/files/k{LATER}", body=b"second").status == 200
    assert by_each(lab, "ann", "k") == [(200, b"second")] * 3
    assert lab.ask("ann", "PUT", "/vos/files/k", body=b"third").status in (200, 201)
    assert by_each(lab, "ann", "k") == [(200, b"third")] * 3
    lab.put("ann", "k", b"fourth")
    assert by_each(lab, "ann", "k") == [(200, b"fourth")] * 3
    assert lab.ask("ann", "DELETE", "/vos/nodes/k").status in (200, 204)
    assert [status for status, _ in by_each(lab, "ann", "k")] == [404] * 3


def test_members_of_a_dataset_are_keys(lab: Lab) -> None:
    loi = lab.ask("ann", "POST", f"/datasafe/api/{FAMILY}").body.decode()
    assert lab.ask("ann", "PUT", f"/datasafe/api/{loi}", body=archive(FILES)).status == 200
    lab.store.set_data(f"{loi}/note.txt", b"added by hand")
    packed = unpacked(lab.ask("ann", "GET", f"/datasafe/api/{loi}"))
    assert packed["run.dat"] == FILES["run.dat"]


def test_nobody_else_sees_any_of_it(lab: Lab) -> None:
    missing = by_each(lab, "bob", "own/missing")
    found = written(lab, "ann")
    for key in found:
        assert [status for status, _ in by_each(lab, "bob", key)] == [404] * 3
    assert [status for status, _ in missing] == [404] * 3
    assert keys_of(lab, "bob") == listed(lab, "bob") == set()
    root = lab.ask("bob", "GET", "/vos/nodes").body.decode()
    assert "vos://kvstore~vos/" not in root
    loi = next(key for key in found if key.startswith("42.")).rpartition("/")[0]
    assert lab.ask("bob", "GET", f"/datasafe/api/{loi}").status == 404


def test_nobody_else_changes_any_of_it(lab: Lab) -> None:
    found = written(lab, "ann")
    for key, data in found.items():
        for target, method in (
            (f"/filetracker/files/{key}{LATER}", "PUT"),
            (f"/filetracker/files/{key}{LATER}", "DELETE"),
            (f"/vos/files/{key}", "PUT"),
            (f"/vos/nodes/{key}", "DELETE"),
            (f"/keys/{key.replace('/', '%2F')}/data", "PUT"),
        ):
            answer = lab.ask("bob", method, target, body=b"evil" if method == "PUT" else b"")
            assert answer.status in (403, 404), (target, method, answer.body)
        assert lab.store.to_bytes(key) == data


def test_a_token_to_read_writes_nowhere(lab: Lab) -> None:
    lab.put("ann", "k", b"data")
    lab.token("reader", user="ann", scopes=["read"])
    before = lab.store.sequence()
    for target, method in (
        (f"/filetracker/files/k{LATER}", "PUT"),
        (f"/filetracker/files/k{LATER}", "DELETE"),
        ("/vos/files/k", "PUT"),
        ("/vos/nodes/k", "DELETE"),
        (f"/datasafe/api/{FAMILY}", "POST"),
        ("/meteorpi/import", "POST"),
    ):
        answer = lab.ask("reader", method, target, body=b"{}")
        assert answer.status in (400, 401, 403), (target, method, answer.body)
    assert by_each(lab, "reader", "k") == [(200, b"data")] * 3
    assert lab.store.sequence() == before


def test_no_gateway_answers_without_credentials(lab: Lab) -> None:
    lab.put("ann", "k")
    for target in ("/filetracker/files/k", "/vos/nodes/k", "/vos/files/k", "/datasafe/api/42.1/k"):
        assert lab.ask(None, "GET", target).status in (401, 403, 404), target
    with pytest.raises(KeyNotFoundError):
        lab.store.get("new")
