"""The contract, last part: stores whose keys have permissions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from kvstore.errors import UnsupportedOperationError
from kvstore.store import IfMatch, Store
from kvstore.values import Permissions, check_permissions, copy_permissions
from kvstore.writes import Change, Condition


class AuthorizingStore(Store):
    """A store whose keys have permissions.

    Permissions are free text; ``owned`` holds all rights and always has a tag. A tag stands for a
    user, a group or a role; ``public`` is everybody. A new key is owned by ``user_tag()``.
    """

    capabilities: ClassVar[dict[str, Any]] = {**Store.capabilities, "authorizing": True}

    @abstractmethod
    def user_tag(self) -> str:
        """Return the tag that stands for the user of this store."""

    def get_permissions(self, key: str) -> Permissions:
        """Return the permissions of *key*: permission to set of tags.

        Raises:
            KeyNotFoundError: no such key, or the user may not see it.
            AuthorizationError: the user may see it, but is no owner.
        """
        return copy_permissions(self._get_permissions(self._check(key)))

    def set_permissions(
        self, key: str, permissions: Permissions, *, if_match: IfMatch = None
    ) -> str | None:
        """Replace the permissions of *key*.

        Raises:
            InvalidPermissionsError: not a dict of sets of str, or no ``owned`` with a tag.
            KeyNotFoundError, AuthorizationError: as :meth:`get_permissions`.
            ConflictError: the condition does not hold.
        """
        checked = check_permissions(permissions, complete=True)
        condition = Condition.of(if_match, None)
        return self._permit(key, Change(permissions=checked, condition=condition))

    def update_permissions(
        self, key: str, permissions: Permissions, *, if_match: IfMatch = None
    ) -> str | None:
        """Add tags to the permissions of *key*; otherwise as :meth:`set_permissions`."""
        checked = check_permissions(permissions, complete=False)
        condition = Condition.of(if_match, None)
        return self._permit(key, Change(permissions=checked, merge=True, condition=condition))

    def _get_permissions(self, key: str) -> Permissions:
        """Shortcut. Return the permissions of *key*."""
        permissions = self._record(key).permissions
        if permissions is None:
            raise UnsupportedOperationError(f"{self!r} does not tell permissions.", key=key)
        return permissions

    def _permit(self, key: str, change: Change) -> str | None:
        return self._write_own(self._check(key), change).revision
