"""Tokens of an OpenID provider, which is a small server here."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kvstore.server import Settings, serve_background
from kvstore.server.access.admission import access_of
from kvstore.server.access.callers import Access
from kvstore.server.access.oidc import OidcAuthenticator
from kvstore.server.access.tokens import Tokens
from kvstore.server.running.settings import AccessRules, Oidc
from kvstore.stores.memory import MemoryStore
from tests.server.sockets import Answer, Wire, ask

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())


class Provider:
    """A provider that says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: list[dict[str, Any]] = [jwk(RSA, "RS256", "r"), jwk(EC, "ES256", "e")]
        self.about: dict[str, Any] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                pages = {
                    "/.well-known/openid-configuration": provider.described(),
                    "/keys": {"keys": provider.keys},
                }
                body = json.dumps(pages.get(self.path)).encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def described(self) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.about}

    def token(self, key: Any = EC, algorithm: str = "ES256", kid: str | None = "e", **claims: Any):
        whole = {"iss": self.url, "aud": "kv", "sub": "ann", "exp": time.time() + 60, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(whole, key, algorithm=algorithm, headers=headers)


def jwk(key: Any, algorithm: str, kid: str, **more: Any) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", **more}


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,))
    thread.start()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()
    thread.join()


class Site:
    """A server that takes the tokens of the provider."""

    def __init__(self, provider: Provider, **options: Any) -> None:
        self.oidc = Oidc(**{"issuer": provider.url, "audience": "kv", **options})
        self.store = MemoryStore(user_tag="local")
        reserved = frozenset({"local", "public"})
        self.known = OidcAuthenticator(self.oidc, reserved=reserved)
        self.now = 0.0
        self.known._keys._clock = lambda: self.now
        self._context = serve_background(self.store, access=Access([self.known], failures=10**6))

    def __enter__(self) -> Site:
        self.store.connect()
        self.url = self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
        self.store.disconnect()

    def ask(self, token: str, method: str = "GET", target: str = "/query", **more: Any) -> Answer:
        return ask(self.url, method, target, f"Authorization: Bearer {token}", **more)

    def user(self, token: str) -> Any:
        answer = self.ask(token, target="/.well-known/kvstore")
        return json.loads(answer.body)["user"] if answer.status == 200 else answer.status


def test_who_the_provider_knows_is_a_user_here(provider: Provider) -> None:
    provider.keys.append(jwk(ED, "EdDSA", "d"))
    with Site(provider, tags_claim="groups") as site:
        token = provider.token(groups=["staff", "sky"])
        assert site.ask(token, "PUT", "/keys/a/data", body=b"x").status == 201
        assert site.store.get_permissions("a") == {"owned": {"ann"}}
        assert site.user(token) == {"tag": "ann", "tags": ["ann", "public", "sky", "staff"]}
        assert site.user(provider.token(RSA, "RS256", "r", sub="bob"))["tag"] == "bob"
        assert site.user(provider.token(RSA, "PS256", "r", sub="bob"))["tag"] == "bob"
        assert site.user(provider.token(ED, "EdDSA", "d", sub="eve", groups="a b")) == {
            "tag": "eve",
            "tags": ["a", "b", "eve", "public"],
        }
        assert site.ask(provider.token(sub="bob"), target="/keys/a/data").status == 404
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


def unsigned(provider: Provider, algorithm: str) -> str:
    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    claims = {"iss": provider.url, "aud": "kv", "sub": "ann", "exp": time.time() + 60}
    return f"{part({'alg': algorithm, 'kid': 'e'})}.{part(claims)}."


def with_public_key_as_secret(provider: Provider) -> str:
    # A server that took any algorithm would check this with what everybody knows.
    kinds = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    secret = EC.public_key().public_bytes(*kinds)
    head, body, _ = unsigned(provider, "HS256").split(".")
    signature = jwt.get_algorithm_by_name("HS256")
    mac = signature.sign(f"{head}.{body}".encode(), secret)
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_what_another_could_have_made_is_refused(provider: Provider) -> None:
    now = time.time()
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    small = jwk(weak, "RS256", "w")
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        short = provider.token(weak, "RS256", "w")
    provider.keys += [small, {"kty": "oct", "k": "c2VjcmV0", "kid": "o", "alg": "HS256"}]
    provider.keys += [jwk(OTHER, "ES256", "x", use="enc"), {"kty": "EC"}, "none"]  # type: ignore[list-item]
    provider.keys += [{"kty": "RSA", "n": "é", "e": 5}, {"kty": "OKP", "crv": 7, "x": []}]
    head, body, signature = provider.token().split(".")
    with Site(provider, tags_claim="groups", leeway=0) as site:
        refused = {
            "unsigned": unsigned(provider, "none"),
            "unsigned, in capitals": unsigned(provider, "NONE"),
            "the public key as a secret": with_public_key_as_secret(provider),
            "a shared secret": jwt.encode({"sub": "ann"}, "secret" * 9, headers={"kid": "o"}),
            "another key": provider.token(OTHER),
            "another kind of key": provider.token(RSA, "RS256", "e"),
            "a key that is not there": provider.token(OTHER, kid="y"),
            "a key to encrypt with": provider.token(OTHER, kid="x"),
            "no key named, of several": provider.token(kid=None),
            "a short key": short,
            "another issuer": provider.token(iss="https://id.example"),
            "no issuer": provider.token(iss=None),
            "for another service": provider.token(aud="mail"),
            "for other services": provider.token(aud=["mail", "web"]),
            "for nothing": provider.token(aud=None),
            "no end": provider.token(exp=None),
            "an end that is none": provider.token(exp=float("inf")),
            "over": provider.token(exp=now - 1),
            "not begun": provider.token(nbf=now + 600),
            "no user": provider.token(sub=None),
            "an empty user": provider.token(sub=""),
            "everybody": provider.token(sub="public"),
            "the store's own user": provider.token(sub="local"),
            "changed": f"{head}.{body[:-2]}AA.{signature}",
            "cut": f"{head}.{body}.{signature[:-4]}",
            "garbage": "a.b.c",
            "deep": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30.AA",
        }
        found = {name: site.ask(token).status for name, token in refused.items()}
        assert found == dict.fromkeys(refused, 401)
        assert site.ask(refused["over"]).problem["detail"] == "The token has expired."
        # Tags that are reserved are left out, and the rest is as good as ever.
        user = site.user(provider.token(groups=["local", "public", "staff", 7]))
        assert user["tags"] == ["ann", "public", "staff"]


def test_claims_can_be_others_and_tags_be_told_from_those_of_this_server(
    provider: Provider,
) -> None:
    options = {
        "user_claim": "email",
        "tags_claim": "realm_access.roles",
        "prefix": "id:",
        "read_scope": "kv.read",
        "write_scope": "kv.write",
        "scope_claim": "scp",
    }
    with Site(provider, **options) as site:
        claims = {
            "email": "local",
            "email_verified": True,
            "realm_access": {"roles": ["sky"]},
            "scp": "kv.read openid",
        }
        token = provider.token(**claims)
        assert site.user(token) == {"tag": "id:local", "tags": ["id:local", "id:sky", "public"]}
        assert site.ask(token, "PUT", "/keys/a/data", body=b"x").status == 403
        token = provider.token(**{**claims, "scp": ["kv.read", "kv.write"]})
        assert site.ask(token, "PUT", "/keys/a/data", body=b"x").status == 201
        assert site.ask(provider.token(**{**claims, "scp": None})).status == 403
        for unverified in (False, None, "true"):
            assert site.user(provider.token(**{**claims, "email_verified": unverified})) == 401


def test_keys_are_fetched_when_they_are_new_and_not_for_whoever_asks(provider: Provider) -> None:
    with Site(provider) as site:
        old = provider.token()
        assert [site.ask(old).status for _ in range(2)] == [200, 200]
        for _ in range(3):
            assert site.ask(provider.token(OTHER, kid="new")).status == 401
        assert len(provider.asked) == 2
        provider.keys = [jwk(OTHER, "ES256", "new")]
        site.now += 31
        assert site.ask(provider.token(OTHER, kid="new")).status == 200
        assert site.ask(old).status == 401  # its key was withdrawn
        assert site.ask(provider.token(OTHER, kid=None)).status == 200
        assert len(provider.asked) == 4


def test_a_provider_that_is_away_is_not_needed_at_once(provider: Provider, caplog) -> None:
    with Site(provider) as site:
        provider.about = {"issuer": "https://id.example"}
        answer = site.ask(provider.token())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert "cannot be fetched: It is 'https://id.example' that is described" in caplog.text
        for about in ({"jwks_uri": "file:///etc/passwd"}, {"jwks_uri": f"{provider.url}/" + "x"}):
            site.now += 31
            provider.about = about
            assert site.ask(provider.token()).status == 503
        provider.about = {}
        site.now += 31
        assert site.ask(provider.token()).status == 200
        provider.about = {"issuer": "?"}
        site.now += 7200
        assert site.ask(provider.token()).status == 200
        site.now += 24 * 3600
        assert site.ask(provider.token()).status == 503


def test_a_token_that_ends_while_data_come_stores_nothing(provider: Provider) -> None:
    with Site(provider) as site, Wire(site.url) as wire:
        token = provider.token()
        lines = [f"Authorization: Bearer {token}", "Content-Length: 8", "Expect: 100-continue"]
        wire.head("PUT", "/keys/a/data", *lines)
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100")
        wire.send(b"data")
        site.known._clock = lambda: time.time() + 91
        wire.send(b"more")
        assert wire.read().status == 401
        assert not site.store.exists("a")


def test_both_kinds_of_tokens_are_taken_side_by_side(provider: Provider, tmp_path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    text = tokens.create("ann")[1]
    settings = Settings(
        oidc=Oidc(issuer=provider.url, audience="kv"), access=AccessRules(tokens=tokens.path)
    )
    store = MemoryStore()
    with store, serve_background(store, access=access_of(settings, store)) as url:
        for bearer in (text, provider.token(sub="ann")):
            assert ask(url, "GET", "/query", f"Authorization: Bearer {bearer}").status == 200
        assert ask(url, "GET", "/query").status == 401
