"""A store on a web server: data, metadata and permissions at URLs that templates describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from os import PathLike
from typing import Any, ClassVar, Self

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject, parse_object
from kvstore.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotConnectedError,
    TransportError,
)
from kvstore.hub import EventHub
from kvstore.profiles import wire
from kvstore.profiles.loading import load_profile
from kvstore.profiles.profile import Profile
from kvstore.profiles.service import PARTS, URL_FORMAT, URL_FORMAT_NO_PART, Service
from kvstore.stores._remote import RemoteStore
from kvstore.transport.addresses import origin_of, root_of, shown_url
from kvstore.transport.bodies import MAX_DOCUMENT
from kvstore.transport.conversation import Conversation
from kvstore.transport.credentials import parsed_credentials
from kvstore.transport.dialect import Dialect
from kvstore.transport.exchange import Exchange, Request
from kvstore.transport.mapped.dialect import MappedDialect
from kvstore.transport.mapped.layout import Layout, policy_for, service_at
from kvstore.transport.native import NativeDialect
from kvstore.transport.policy import DEFAULT_POLICY, Policy
from kvstore.transport.remembered import Remembered
from kvstore.transport.sender import BearerAuth as BearerAuth
from kvstore.transport.sender import Sender
from kvstore.transport.vospace.dialect import VospaceDialect

# A service document that is not there *now* must not pass for one that is not there: for as long as
# the store is connected, writes would be in two steps and digests not checked.
_ANY_STATUS = frozenset(range(200, 600)) - {429, 502, 503, 504}


class DynamicURLStore(RemoteStore):
    """A store on a web server that has URLs for the parts of each key.

    The server answers GET, PUT and POST at these URLs and a query URL, as the protocol page of the
    documentation says. What more it can do (data and metadata in one request, conditions, digests,
    filters) it announces in a service document, ``/.well-known/kvstore`` at its origin, which is
    looked up at first use; nothing of it is used on a server that announces nothing.

    Data streams in constant memory. Every answer must have the status asked for, a length, and
    the digest announced for it. Requests that may safely be sent again are (see
    :mod:`kvstore.transport.exchange`). Redirects are followed within the origin only.

    Thread-safe: each thread has its own connections. A pickle has the configuration; it is
    connected again when it was connected without credentials, which are never pickled.

    Args:
        base_url: what ``{base}`` stands for. User and password in it become the credentials.
        query_url: where queries go.
        profile: how to talk to a server of another protocol: the name of a bundled profile, the
            path of a JSON file, a dict, or a `Profile`. It says then what the templates do.
        url_format: URL of a part of a key, with ``{base}``, ``{key}`` and ``{part}``.
        url_format_no_part: URL of a key as a whole, to delete it.
        parts: what ``{part}`` is for ``data``, ``metadata`` and ``permissions``.
        policy: time-outs and attempts.
        verify_digests: False reads data without checking it, a little faster.
        resume_folder: where large uploads of files that are under way are remembered, so that a new
            process goes on with them; None: only this one does.
        events, metadata_schema: as for every store. Where a server holds the metadata, a schema
            given here is checked here, for an update against what is there just before.

    Raises:
        InvalidRequestError: a URL or a template that is none.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **AuthorizingStore.capabilities,
        "durability": "none",  # none that is known, unless the server says so
    }

    def __init__(
        self,
        base_url: str,
        query_url: str | None = None,
        url_format: str = URL_FORMAT,
        url_format_no_part: str = URL_FORMAT_NO_PART,
        parts: Mapping[str, str] = PARTS,
        *,
        profile: str | PathLike[str] | JsonObject | Profile | None = None,
        policy: Policy = DEFAULT_POLICY,
        verify_digests: bool = True,
        resume_folder: str | PathLike[str] | None = None,
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        told = None if profile is None else load_profile(profile)
        layout = Layout(url_format, url_format_no_part, parts)
        self._basic, self._url_auth = service_at(base_url, query_url, told, layout)
        # A profile of our own protocol has said all that it knows.
        self._profile = None if told is None or told.dialect == "kvstore" else told
        super().__init__(
            policy_for(told, policy),
            verify_digests=verify_digests,
            events=events,
            metadata_schema=metadata_schema,
        )
        self._remembered = None if resume_folder is None else Remembered(resume_folder)
        self._user_tag: str | None = None
        self._is_secret = False
        self._sender: Sender | None = None
        self._talk: Dialect | None = None

    @classmethod
    def discover(cls, url: str, credentials: Any = None, **options: Any) -> Self:
        """Return the store that the server at *url* describes in its service document, connected.

        Args:
            url: scheme and host, and the path below which the server lives, if it has one.
            credentials: as for :meth:`connect`.
            options: keyword arguments of the class.

        Raises:
            TransportError: the server does not answer, or has no service document.
            AuthenticationError: it does not take the credentials.
        """
        address = url.rstrip("/")
        scout = cls(address, address, **options)
        scout.connect(credentials)
        try:
            url = f"{scout._basic.base}{wire.SERVICE_PATH}"
            service = scout._described(url, scout._connection())
        finally:
            scout.disconnect()
        if service is None:
            message = (
                f"{shown_url(address)} has no service document ({wire.SERVICE_PATH}); for other "
                "servers use DynamicURLStore(base_url, query_url)."
            )
            raise TransportError(message)
        if not origin_of(service.base) == origin_of(service.query) == origin_of(scout._basic.base):
            # The credentials are for the server that was asked.
            message = f"{shown_url(address)} describes a store at another origin"
            raise TransportError(f"{message}: {shown_url(service.base)}.")
        try:
            store = cls(
                service.base,
                service.query,
                service.url_format,
                service.url_format_no_part,
                service.parts,
                **options,
            )
        except InvalidRequestError as error:
            message = f"{shown_url(address)} describes no store: {error.message}"
            raise TransportError(message) from error
        store._url_auth = scout._url_auth
        store.connect(credentials)
        store._talk = store._conversation(service, store._connection())
        return store

    def connect(self, credentials: Any = None) -> None:
        """Make the store ready for use. No request is sent yet.

        Args:
            credentials: None, or ``(user_tag, session)``: the user's permission tag (None: what
                the server says) and a ``requests.Session`` with whatever authentication,
                certificates and proxies it takes; or ``(user_tag, auth)`` with a ``requests``
                authentication object such as :class:`kvstore.BearerAuth`, or the
                secret itself where the profile names the header for it.
        """
        super().connect(credentials)

    def user_tag(self) -> str:
        """Return the tag given to ``connect``, else what the server says, else ``public``."""
        self._ready()
        return self._user_tag if self._user_tag is not None else self._server().user_tag

    def reserve(self, family: str) -> str:
        """Have a server that assigns the keys make a new one, without data, and return it.

        Raises:
            UnsupportedOperationError: on this server, clients choose the keys.
        """
        self._ready()
        return self._server().reserve(family)

    def probe(self) -> None:
        """Ask the server whether it is what the profile describes; a StoreError if it is not."""
        self._ready()
        self._server().probe()

    def info(self) -> dict[str, Any]:
        """As for every store, with what this server announces; ``url`` and ``capabilities``."""
        info = super().info()
        info["url"] = self._basic.base
        if not self.is_connected():
            return info
        return {**info, **self._server().info()}

    def __repr__(self) -> str:
        return f"<DynamicURLStore {self._basic.base!r}>"

    def __getstate__(self) -> dict[str, Any]:
        basic = self._basic
        return {
            "urls": (
                basic.base,
                basic.query or None,
                basic.url_format,
                basic.url_format_no_part,
                dict(basic.parts),
            ),
            "options": {
                "profile": self._profile,
                "policy": self._policy,
                "verify_digests": self._verify_digests,
                "resume_folder": self._remembered.folder if self._remembered else None,
                "metadata_schema": self.metadata_schema,
            },
            "connected": self.is_connected() and not self._is_secret,
            "user_tag": self._user_tag,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        DynamicURLStore.__init__(self, *state["urls"], **state["options"])
        if state["connected"]:
            self.connect((state["user_tag"], None))

    # -- primitives ------------------------------------------------------------------------

    def _connect(self, credentials: Any) -> None:
        tag, session, auth = parsed_credentials(credentials, self._profile)
        if session is None and auth is None:
            auth = self._url_auth
        sender = Sender(session, self._basic.base, self._policy, auth=auth)
        self._disconnect()
        self._user_tag, self._sender = tag, sender
        self._is_secret = session is not None or auth is not None

    def _disconnect(self) -> None:
        sender, self._sender = self._sender, None
        talk, self._talk = self._talk, None
        self._crew.close()
        if talk is not None:
            talk.close()
        if sender is not None:
            sender.close()

    # -- the server ------------------------------------------------------------------------

    def _server(self) -> Dialect:
        talk = self._talk
        if talk is None and self._profile is not None:
            dialect = VospaceDialect if self._profile.dialect == "vospace" else MappedDialect
            talk = self._talk = dialect.on(
                self._connection(),
                self._policy,
                self._profile,
                self._basic.base,
                verify_digests=self._verify_digests,
            )
        if talk is None:
            sender = self._connection()
            basic = self._basic
            url = f"{root_of(basic.base)}{wire.SERVICE_PATH}"
            try:
                service = self._described(url, sender)
            except AuthenticationError:  # where the keys are it may take these
                service = None
            # Another service may live at this origin: only one that names our URLs is ours.
            if service is not None and service.layout == basic.layout:
                basic = replace(service, query=basic.query)
            talk = self._conversation(basic, sender)
            if self._sender is sender:  # else it was connected anew meanwhile
                self._talk = talk
        return talk

    def _conversation(self, service: Service, sender: Sender) -> Dialect:
        exchange = Exchange(sender, self._policy)
        checks = self._verify_digests
        return NativeDialect(
            Conversation(exchange, service, self._remembered, verify_digests=checks)
        )

    def _described(self, url: str, sender: Sender) -> Service | None:
        """Return what the service document at *url* describes, None if there is none.

        Raises:
            TransportError: that cannot be told now.
            AuthenticationError: the server wants others.
        """
        request = Request("GET", url, headers={"Accept": "application/json"}, expect=_ANY_STATUS)
        try:
            answer = Exchange(sender, self._policy)(request)
            if answer.status != 200:
                answer.finish()
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    message = f"{shown_url(root_of(url))} asks for a token, or another one."
                    raise AuthenticationError(message, status=answer.status)
                return None
            service = Service.of_document(parse_object(answer.read(MAX_DOCUMENT)), url)
            return service.without(lambda there: origin_of(there) != origin_of(url))
        except InvalidRequestError:
            return None
        except TransportError as error:
            if error.status in (None, 429, 502, 503, 504):
                raise
            return None  # an answer, but of what is no such server

    def _connection(self) -> Sender:
        if self._sender is None:
            self._ready()
            raise NotConnectedError(f"{self!r} was disconnected by another thread.")
        return self._sender


def profile_of_vospace(given: Any, told: Mapping[str, str]) -> Profile:
    """Return the profile of a VOSpace service, with what its URL says.

    Args:
        given: as for the class; None for the bundled one.
        told: members of the ``vospace`` of the document.

    Raises:
        InvalidRequestError: it is of another protocol, or none.
    """
    profile = load_profile("vospace" if given is None else given)
    if profile.dialect != "vospace":
        raise InvalidRequestError(f"The profile {profile.name!r} is of no VOSpace.")
    return Profile.of({**profile.document, "vospace": {**profile.vospace, **told}})
