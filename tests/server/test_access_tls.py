from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kvstore.errors import InvalidRequestError, TransportError
from kvstore.opening import open_store
from kvstore.server import Settings, serve
from kvstore.server.access.tokens import Tokens
from kvstore.server.running.run import app_of, running
from kvstore.server.running.settings import AccessRules, Tls
from kvstore.stores.memory import MemoryStore

PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Tls(cert=folder / "cert.pem", key=folder / "key.pem")
    found.cert.write_bytes(certificate.public_bytes(PEM))
    kind, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    found.key.write_bytes(key.private_bytes(PEM, kind, secret))
    secret = serialization.BestAvailableEncryption(b"secret")
    (folder / "locked.pem").write_bytes(key.private_bytes(PEM, kind, secret))
    return found


def test_a_server_with_a_certificate_speaks_tls_and_nothing_older(tls: Tls, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    text = tokens.create("ann")[1]
    settings = Settings(tls=tls, access=AccessRules(tokens=tokens.path))
    store = MemoryStore()
    with store, running(app_of(store, settings), settings=settings) as url:
        assert url.startswith("https://127.0.0.1:")
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(tls.cert)
            session.headers["Authorization"] = f"Bearer {text}"
            with open_store(url, (None, session)) as remote:
                remote.set("a", bytes(3_000_000))
                assert remote.to_bytes("a") == bytes(3_000_000)
                assert remote.get_permissions("a") == {"owned": {"ann"}}
        with pytest.raises(TransportError, match="certificate verify failed"):
            open_store(url, token=text)
        parts = urlsplit(url)
        context = ssl.create_default_context(cafile=str(tls.cert))
        with socket.create_connection((parts.hostname, parts.port)) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wire:
                assert wire.version() == "TLSv1.3"
        old = ssl.create_default_context(cafile=str(tls.cert))
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((parts.hostname, parts.port)) as plain:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                old.wrap_socket(plain, server_hostname="localhost")


def test_files_that_are_no_certificate_are_refused_before_anything_listens(tls: Tls) -> None:
    for key in (tls.cert, tls.key.with_name("locked.pem"), tls.key.with_name("none.pem")):
        settings = Settings(tls=Tls(cert=tls.cert, key=key), host="0.0.0.0")
        with pytest.raises(InvalidRequestError, match="There is no certificate with its key in"):
            serve(MemoryStore(), settings)
