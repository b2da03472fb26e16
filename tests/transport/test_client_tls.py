"""TLS: whose certificate is trusted, who decides that, and that the rules hold there too."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3

from kvstore import DynamicURLStore
from kvstore.errors import TransportError
from kvstore.transport.policy import Policy
from tests.transport.clients import HASTY, ONCE, client
from tests.transport.wire_server import Step, Wire, WireServer, answer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def certificate(folder: Path, name: str) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    path = folder / f"{name}.pem"
    key = folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: str(certificate(folder, name)) for name in ("mine", "other")}


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def server_with(path: str, *steps: Step) -> WireServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return WireServer(steps, context=context)


DATA = b"x" * 700_000


@pytest.mark.parametrize("hooks", [[], [lambda response, **told: None]], ids=["lean", "whole"])
def test_a_certificate_that_the_session_trusts(certificates, session, hooks):
    session.verify = certificates["mine"]
    session.hooks["response"] = hooks
    steps = [answer(201), answer(200, DATA), answer(404)]
    with server_with(certificates["mine"], *steps) as server:
        with client(server, credentials=(None, session)) as store:
            store.set_data("k", DATA)
            assert store.get_data("k").read() == DATA
            assert not store.exists("k")
    assert server.seen[0].body == DATA
    assert server.connections == 1


@pytest.mark.parametrize("hooks", [[], [lambda response, **told: None]], ids=["lean", "whole"])
def test_a_certificate_that_nobody_trusts_is_told_at_once(certificates, session, hooks):
    session.hooks["response"] = hooks
    for verify in (True, certificates["other"]):
        session.verify = verify
        with server_with(certificates["mine"]) as server:
            with client(server, policy=HASTY, credentials=(None, session)) as store:
                with pytest.raises(TransportError, match="certificate") as caught:
                    store.get_data("k")
                assert caught.value.attempts == 1
        assert server.connections == 1


def test_a_certificate_of_another_host_is_not_taken(certificates, session):
    session.verify = certificates["mine"]
    with server_with(certificates["mine"]) as server:
        url = f"https://localhost:{server.port}"
        store = DynamicURLStore(f"{url}/keys", f"{url}/query", policy=HASTY)
        store.connect((None, session))
        with store, pytest.raises(TransportError, match="localhost") as caught:
            store.get_data("k")
        assert caught.value.attempts == 1


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("hooks", [[], [lambda response, **told: None]], ids=["lean", "whole"])
def test_the_environment_decides_only_where_the_session_does_not(
    certificates, session, monkeypatch, name, hooks
):
    session.hooks["response"] = hooks
    monkeypatch.setenv(name, certificates["mine"])
    with server_with(certificates["mine"], answer(404)) as server:
        with client(server, credentials=(None, session)) as store:
            assert not store.exists("k")
    session.verify = certificates["other"]
    with server_with(certificates["mine"]) as server:
        with client(server, credentials=(None, session)) as store:
            with pytest.raises(TransportError, match="certificate"):
                store.exists("k")
    monkeypatch.setenv(name, certificates["other"])
    session.verify = certificates["mine"]
    with server_with(certificates["mine"], answer(404)) as server:
        with client(server, credentials=(None, session)) as store:
            assert not store.exists("k")


@pytest.mark.parametrize("hooks", [[], [lambda response, **told: None]], ids=["lean", "whole"])
def test_verification_that_the_session_turns_off_stays_off(
    certificates, session, monkeypatch, hooks
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates["other"])
    session.hooks["response"] = hooks
    session.verify = False
    with server_with(certificates["mine"], answer(404)) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        with client(server, credentials=(None, session)) as store:
            assert not store.exists("k")


def test_a_bundle_given_later_counts(certificates, session):
    with server_with(certificates["mine"], answer(404)) as server:
        with client(server, credentials=(None, session)) as store:
            with pytest.raises(TransportError):
                store.exists("k")
            session.verify = certificates["mine"]
            assert not store.exists("k")


def test_a_server_that_does_not_speak_tls():
    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1 << 16)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=ONCE) as store:
            with pytest.raises(TransportError):
                store.get_data("k")
        thread.join()


def test_a_server_that_says_nothing_to_tls():
    policy = Policy(attempts=1, connect_timeout=0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=policy) as store:
            with pytest.raises(TransportError, match="timed out"):
                store.get_data("k")


def test_the_rules_hold_over_tls(certificates, session):
    def cut(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-")
        wire.close()

    session.verify = certificates["mine"]
    policy = Policy(attempts=1, read_timeout=0.4)
    with server_with(certificates["mine"], cut, Wire.hang) as server:
        with client(server, policy=policy, credentials=(None, session)) as store:
            with pytest.raises(TransportError, match="cut short"):
                store.get_data("k")
            with pytest.raises(TransportError, match="timed out"):
                store.get_data("k")
