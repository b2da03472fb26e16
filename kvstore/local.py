"""Stores on this machine: whoever opens one says who owns what they make."""

from __future__ import annotations

import os
from typing import Any

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError
from kvstore.hub import EventHub
from kvstore.values import OWNED, check_permissions


class LocalStore(AuthorizingStore):
    """A store without a server. Its credentials are a user tag; nobody checks them.

    Args:
        user_tag: who owns new keys.
        events, metadata_schema: as for every store.

    Raises:
        InvalidPermissionsError: the tag is none.
    """

    def __init__(
        self,
        *,
        user_tag: str = "local",
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        super().__init__(events=events, metadata_schema=metadata_schema)
        self._user_tag = _checked(user_tag)

    def user_tag(self) -> str:
        """Return the tag given to the constructor or, later, to ``connect``."""
        return self._user_tag

    def _connect(self, credentials: Any) -> None:
        if credentials is not None and not isinstance(credentials, str):
            kind = type(credentials).__name__
            message = f"The credentials of a {type(self).__name__} are a user tag, not {kind}."
            raise InvalidRequestError(message)
        self._user_tag = _checked(credentials or self._user_tag)


def _checked(tag: str) -> str:
    # It becomes a tag of permissions, and has to be one.
    check_permissions({OWNED: {tag}}, complete=True)
    return tag


def absolute(root: object) -> str:
    """Return the absolute path of a store's folder; links are not followed.

    Raises:
        InvalidRequestError: no path, or one of bytes.
    """
    path = os.fspath(root) if isinstance(root, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidRequestError(f"The root is the path of a folder, not {root!r:.100}.")
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
