"""Sends one request on a user's session or on our own, by the shortest way that honours it."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_netrc_auth, select_proxy

from kvstore.errors import NotConnectedError
from kvstore.transport.adapter import LeanAdapter, LeanRequest, PatientAdapter
from kvstore.transport.addresses import origin_of, root_of
from kvstore.transport.policy import CURRENT, Patience, Policy
from kvstore.version import __version__

_OWN_HEADERS = {
    "User-Agent": f"kvstore/{__version__}",
    # Sizes, ranges and digests are of the stored bytes, so they must come as they are.
    "Accept-Encoding": "identity",
}


class BearerAuth(AuthBase):
    """A bearer token (RFC 6750) as ``requests`` wants credentials.

    As ``session.auth`` it stays in force where a ``.netrc`` entry for the host would silently
    replace an ``Authorization`` header. Never shows the token.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def __repr__(self) -> str:
        return "BearerAuth(<secret>)"


class _NoAuth(AuthBase):
    """Leaves a request as it is; given, it keeps ``requests`` from looking into ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Twin(requests.Session):
    """A session of `requests.Session` as it is, but for its adapters."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Else requests would read all of the answer to prepare the next request.
        return None


@dataclass(frozen=True, slots=True)
class _Settings:
    """What session and environment say about one origin."""

    #: Of the session when they were looked up.
    state: tuple[Any, ...]
    verify: Any
    cert: Any
    #: The proxy, under the name that ``requests`` looks for first.
    proxies: dict[str, Any]
    is_direct: bool


class _Process:
    """How often this process was forked from one that had imported this."""

    forks = 0

    @classmethod
    def count(cls) -> None:
        cls.forks += 1


if hasattr(os, "register_at_fork"):  # os.getpid() would be a system call for each request
    os.register_at_fork(after_in_child=_Process.count)


class Sender:
    """One session and the connections made for it.

    What the session is told wins over the environment. What the environment says (proxies and
    certificate bundle for an origin, ``.netrc`` for that of *base_url*) is looked up once.

    A session of plain ``requests.Session`` without hooks, cookies, parameters, proxies or adapters
    of its own is served by :class:`LeanAdapter`. Any other goes through its own ``request``, with
    :class:`PatientAdapter` in place of the adapters that it has by default; one of a subclass
    entirely as it is. Thread-safe; after a fork the child makes connections of its own.

    Args:
        session: the user's; None for one of ours.
        base_url: where most requests go.
        auth: for the session of ours.
    """

    def __init__(
        self,
        session: requests.Session | None,
        base_url: str,
        policy: Policy,
        *,
        auth: AuthBase | None = None,
    ) -> None:
        self._own = session is None
        if session is None:
            session = requests.Session()
            session.headers = CaseInsensitiveDict(_OWN_HEADERS)
            session.auth = auth
        self._session = session
        self._policy = policy
        self._base_url = base_url
        self._prefix = root_of(base_url)
        self._origin = origin_of(base_url)
        self._times = (policy.connect_timeout, policy.read_timeout)
        self._timeout: Any = urllib3.Timeout(connect=self._times[0], read=self._times[1])
        self._local = threading.local()
        self._lean_ones: list[weakref.ref[LeanAdapter]] = []
        self._patient = PatientAdapter()
        self._forks = _Process.forks
        self._closed = False
        self._settings: dict[str, _Settings] = {}
        self._netrc = self._netrc_auth()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        *,
        patience: Patience | None = None,
    ) -> requests.Response:
        """Send one request and return the answer, its body unread.

        Args:
            patience: for this answer; None for that of data by the policy.

        Raises:
            NotConnectedError: this was closed.
            requests.RequestException, urllib3.exceptions.HTTPError, OSError: it did not come.
        """
        if self._closed:
            raise NotConnectedError("The store was disconnected.")
        before = CURRENT.patience  # of an upload whose data is read with this request
        CURRENT.patience = patience or Patience(self._policy)
        try:
            prefix = self._prefix
            if url.startswith(prefix) and url[len(prefix) : len(prefix) + 1] in ("/", "?", ""):
                settings = self._settings_for(url, self._origin)
                if settings.is_direct and self._is_plain():
                    return self._send_lean(method, url, headers, body, settings)
            else:
                settings = self._settings_for(url, origin_of(url))
            return self._send_whole(method, url, headers, body, settings)
        finally:
            CURRENT.patience = before

    def close(self) -> None:
        """Close the connections made here, and the session if it is ours. Idempotent."""
        self._closed = True
        for adapter in [reference() for reference in self._lean_ones]:
            if adapter is not None:
                adapter.close()
        self._lean_ones = []
        self._local = threading.local()
        self._patient.close()
        if self._own:
            self._session.close()

    def _send_lean(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, settings: _Settings
    ) -> requests.Response:
        merged: Any = _OWN_HEADERS.copy() if self._own else self._session_headers()
        merged.update(headers)
        request: Any = LeanRequest(method, url, self._prefix, merged, body)
        auth = self._session.auth
        if auth is None and self._netrc is not None and "Authorization" not in merged:
            auth = self._netrc
        if auth is not None:
            auth = HTTPBasicAuth(*auth) if isinstance(auth, tuple) else auth
            request = auth(request)
        response = self._lean_adapter().send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=settings.verify,
            cert=settings.cert,
            proxies=settings.proxies,
        )
        if "Set-Cookie" in response.headers:
            jar = self._session.cookies
            extract_cookies_to_jar(jar, request, response.raw)  # type: ignore[no-untyped-call]
        return response

    def _send_whole(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, settings: _Settings
    ) -> requests.Response:
        session = self._whole_session()
        keeps = not session.auth and "Authorization" in (session.headers or ())
        return session.request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            data=body,
            # Else a .netrc entry would replace the header.
            auth=_NoAuth() if keeps else None,
            timeout=self._times,
            allow_redirects=False,
            stream=True,
            verify=settings.verify,
            proxies=settings.proxies,
        )

    def _whole_session(self) -> requests.Session:
        """Return the user's session, with adapters of ours in place of those it has by default."""
        session = self._session
        if self._forks != _Process.forks:
            # A child that went on using its parent's sockets would read the parent's answers.
            self._forks = _Process.forks
            self._patient = PatientAdapter()
            for adapter in session.adapters.values():
                adapter.close()
        if type(session) is not requests.Session:
            return session
        twin = _Twin.__new__(_Twin)
        vars(twin).update(vars(session))
        # In their order, which is that in which they are looked for.
        twin.adapters = OrderedDict(
            (prefix, self._patient if _is_default(adapter) else adapter)
            for prefix, adapter in session.adapters.items()
        )
        return twin

    def _session_headers(self) -> Any:
        merged: Any = CaseInsensitiveDict(self._session.headers or {})
        merged["Accept-Encoding"] = "identity"
        for name in [name for name, value in merged.items() if value is None]:
            del merged[name]  # as requests takes None
        return merged

    def _lean_adapter(self) -> LeanAdapter:
        local = self._local
        if getattr(local, "forks", None) != _Process.forks:
            local.forks = _Process.forks
            local.adapter = LeanAdapter()
            # Weakly: the connections of a thread that has ended are closed with it.
            living = [known for known in self._lean_ones if known() is not None]
            self._lean_ones = [*living, weakref.ref(local.adapter)]
        adapter: LeanAdapter = local.adapter
        return adapter

    def _settings_for(self, url: str, origin: str) -> _Settings:
        known = self._settings.get(origin)
        if known is not None and self._own:
            return known
        session = self._session
        state = (session.verify, session.cert, session.trust_env, dict(session.proxies or {}))
        if known is None or known.state != state:
            known = self._settings[origin] = self._looked_up(url, state)
        return known

    def _looked_up(self, url: str, state: tuple[Any, ...]) -> _Settings:
        session = self._session
        found = session.merge_environment_settings(url, {}, True, None, None)
        # requests lets the environment win over what the session was told.
        verify = found["verify"] if session.verify is True else session.verify
        parts = urlsplit(url)
        names = [f"{scheme}://{parts.hostname}" for scheme in (parts.scheme, "all")]
        told = session.proxies or {}
        is_told = not told.keys().isdisjoint({*names, parts.scheme, "all"})
        proxy = select_proxy(url, told if is_told else found["proxies"])
        # "" is no proxy; None would be taken for nothing said, and the environment asked again.
        proxies = {names[0]: proxy or ""}
        return _Settings(state, verify, found["cert"], proxies, is_direct=not proxy)

    def _is_plain(self) -> bool:
        session = self._session
        auth = session.auth
        if len(session.cookies) or not (
            auth is None or isinstance(auth, (tuple, HTTPBasicAuth, BearerAuth))
        ):
            return False
        return self._own or (
            type(session) is requests.Session
            and not session.params
            and not any(session.hooks.values())
            and all(map(_is_default, session.adapters.values()))
        )

    def _netrc_auth(self) -> Any:
        session = self._session
        if not session.trust_env or session.auth or "Authorization" in (session.headers or ()):
            return None
        return get_netrc_auth(self._base_url)


def _is_default(adapter: object) -> bool:
    """Tell whether an adapter is what a session has from the start, or as good as that."""
    return type(adapter) is HTTPAdapter and adapter.max_retries.total == 0
