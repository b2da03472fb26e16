"""Where a store on a server has its URLs, and how patient it is, as a profile and the user say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from requests.auth import HTTPBasicAuth

from kvstore.errors import InvalidRequestError
from kvstore.profiles.profile import Profile
from kvstore.profiles.service import BASIC, PARTS, Service
from kvstore.transport.addresses import origin_of, shown_url, without_userinfo
from kvstore.transport.policy import DEFAULT_POLICY, Policy


@dataclass(frozen=True, slots=True)
class Layout:
    """The URLs of kvstore's own protocol."""

    url_format: str
    url_format_no_part: str
    parts: Mapping[str, str]


def service_at(
    base_url: str,
    query_url: str | None,
    profile: Profile | None,
    layout: Layout,
) -> tuple[Service, HTTPBasicAuth | None]:
    """Return the server at *base_url*, and user and password where that has some.

    Args:
        query_url: None where a profile says where queries go.
        layout: of kvstore's own protocol, where no profile says it.

    Raises:
        InvalidRequestError: a URL or a template that is none.
    """
    base, auth = without_userinfo(base_url)
    base = base.rstrip("/")
    query = None
    if query_url is not None:
        query, query_auth = without_userinfo(query_url)
        if query_auth is not None and query_auth != auth:
            raise InvalidRequestError("User and password stand in the base URL, not the query URL.")
    if profile is not None and profile.dialect != "kvstore":
        _check_origins(profile, base)
        return replace(BASIC, base=base, query=query or ""), auth
    told: dict[str, Any] = {
        "base": base,
        "url_format": layout.url_format,
        "url_format_no_part": layout.url_format_no_part,
        "parts": layout.parts,
    }
    if profile is not None:
        told = profile.layout(base)
    query = query or told.get("query")
    if query is None:
        raise InvalidRequestError("A store on a server needs a query URL, or a profile.")
    told["parts"] = MappingProxyType({**PARTS, **told["parts"]})
    service = replace(BASIC, **{**told, "query": query})
    service.check()
    return service, auth


def _check_origins(profile: Profile, base: str) -> None:
    """Check that all URLs are at the server that the credentials are for, whatever the key.

    Raises:
        InvalidRequestError: naming the operation whose URL is not.
    """
    for name, operation in profile.operations.items():
        for key in ("k", ".x"):
            if operation.template is not None:
                url = operation.template.expand(base=base, key=key)
            elif operation.plain is not None:
                url = operation.plain.expand(base=base, prefix=key)
            try:
                is_there = origin_of(url) == origin_of(base)
            except ValueError:
                is_there = False
            if not is_there:
                where = f"/operations/{name}/url of the profile {profile.name!r}"
                raise InvalidRequestError(f"{where} is not at {shown_url(base)}: {url!r:.100}.")


def policy_for(profile: Profile | None, policy: Policy) -> Policy:
    """Return the policy, with what a profile says of it where the user says nothing."""
    if profile is None or policy is not DEFAULT_POLICY:
        return policy
    told: dict[str, Any] = dict(profile.timeouts)
    if profile.redirects is not None:
        told["redirects"] = profile.redirects
    return replace(policy, **told)
