"""Stores made of stores, which know nothing of them but the contract.

:class:`kvstore.compose.cached.CachedStore` is imported from its own module, as it needs an extra.
"""

from kvstore.compose.authorized import AuthorizedStore as AuthorizedStore
from kvstore.compose.joined import JoinedStore as JoinedStore
from kvstore.compose.mounted import MountedStore as MountedStore
from kvstore.compose.readonly import ReadOnly as ReadOnly

__all__ = ["AuthorizedStore", "JoinedStore", "MountedStore", "ReadOnly"]
