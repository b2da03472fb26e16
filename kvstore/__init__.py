"""One store interface for blobs with metadata, permissions and queries.

>>> import kvstore
>>> with kvstore.open("memory:") as store:
...     revision = store.set("runs/1", b"...", metadata={"exposure": 1.5})
...     list(store.query_keys(where={"exposure": {"ge": 1}}))
['runs/1']
"""

from kvstore.authorizing import AuthorizingStore as AuthorizingStore
from kvstore.compose import AuthorizedStore as AuthorizedStore
from kvstore.compose import JoinedStore as JoinedStore
from kvstore.compose import MountedStore as MountedStore
from kvstore.compose import ReadOnly as ReadOnly
from kvstore.errors import AuthenticationError as AuthenticationError
from kvstore.errors import AuthorizationError as AuthorizationError
from kvstore.errors import ChangesLostError as ChangesLostError
from kvstore.errors import ConflictError as ConflictError
from kvstore.errors import DamagedError as DamagedError
from kvstore.errors import IntegrityError as IntegrityError
from kvstore.errors import InvalidKeyError as InvalidKeyError
from kvstore.errors import InvalidMetadataError as InvalidMetadataError
from kvstore.errors import InvalidPermissionsError as InvalidPermissionsError
from kvstore.errors import InvalidRequestError as InvalidRequestError
from kvstore.errors import KeyNotFoundError as KeyNotFoundError
from kvstore.errors import NotConnectedError as NotConnectedError
from kvstore.errors import RangeError as RangeError
from kvstore.errors import StorageError as StorageError
from kvstore.errors import StorageFullError as StorageFullError
from kvstore.errors import StoreError as StoreError
from kvstore.errors import TooLargeError as TooLargeError
from kvstore.errors import TransportError as TransportError
from kvstore.errors import UnavailableError as UnavailableError
from kvstore.errors import UnsupportedOperationError as UnsupportedOperationError
from kvstore.events import Progress as Progress
from kvstore.events import StoreDeleteEvent as StoreDeleteEvent
from kvstore.events import StoreEvent as StoreEvent
from kvstore.events import StoreKeyEvent as StoreKeyEvent
from kvstore.events import StoreModificationEvent as StoreModificationEvent
from kvstore.events import StoreProgressEndEvent as StoreProgressEndEvent
from kvstore.events import StoreProgressEvent as StoreProgressEvent
from kvstore.events import StoreProgressStartEvent as StoreProgressStartEvent
from kvstore.events import StoreProgressStepEvent as StoreProgressStepEvent
from kvstore.events import StoreResynchronizedEvent as StoreResynchronizedEvent
from kvstore.events import StoreSetEvent as StoreSetEvent
from kvstore.events import StoreTransactionEndEvent as StoreTransactionEndEvent
from kvstore.events import StoreTransactionEvent as StoreTransactionEvent
from kvstore.events import StoreTransactionStartEvent as StoreTransactionStartEvent
from kvstore.events import StoreUpdateEvent as StoreUpdateEvent
from kvstore.filters import Field as Field
from kvstore.filters import Filter as Filter
from kvstore.filters import field as field
from kvstore.history import JournalEntry as JournalEntry
from kvstore.hub import Event as Event
from kvstore.hub import EventHub as EventHub
from kvstore.keys import check_key as check_key
from kvstore.opening import open_store as open
from kvstore.profiles.profile import Profile as Profile
from kvstore.query import Query as Query
from kvstore.store import ReadOnlyStore as ReadOnlyStore
from kvstore.store import Store as Store
from kvstore.stores.dynamic_url import DynamicURLStore as DynamicURLStore
from kvstore.stores.filesystem import FileSystemStore as FileSystemStore
from kvstore.stores.memory import MemoryStore as MemoryStore
from kvstore.stores.sqlite import SQLiteStore as SQLiteStore
from kvstore.streams import Data as Data
from kvstore.streams import Source as Source
from kvstore.transport.policy import Policy as Policy
from kvstore.transport.sender import BearerAuth as BearerAuth
from kvstore.values import PUBLIC as PUBLIC
from kvstore.values import BytesOpener as BytesOpener
from kvstore.values import Permissions as Permissions
from kvstore.values import Record as Record
from kvstore.values import Value as Value
from kvstore.version import __version__ as __version__
from kvstore.watching import Watch as Watch
from kvstore.writes import Change as Change
from kvstore.writes import Condition as Condition
from kvstore.writes import Written as Written
from kvstore.writes import missing as missing

__all__ = [
    "PUBLIC",
    "AuthenticationError",
    "AuthorizationError",
    "AuthorizedStore",
    "AuthorizingStore",
    "BearerAuth",
    "BytesOpener",
    "Change",
    "ChangesLostError",
    "Condition",
    "ConflictError",
    "DamagedError",
    "Data",
    "DynamicURLStore",
    "Event",
    "EventHub",
    "Field",
    "FileSystemStore",
    "Filter",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidMetadataError",
    "InvalidPermissionsError",
    "InvalidRequestError",
    "JoinedStore",
    "JournalEntry",
    "KeyNotFoundError",
    "MemoryStore",
    "MountedStore",
    "NotConnectedError",
    "Permissions",
    "Policy",
    "Profile",
    "Progress",
    "Query",
    "RangeError",
    "ReadOnly",
    "ReadOnlyStore",
    "Record",
    "SQLiteStore",
    "Source",
    "StorageError",
    "StorageFullError",
    "Store",
    "StoreDeleteEvent",
    "StoreError",
    "StoreEvent",
    "StoreKeyEvent",
    "StoreModificationEvent",
    "StoreProgressEndEvent",
    "StoreProgressEvent",
    "StoreProgressStartEvent",
    "StoreProgressStepEvent",
    "StoreResynchronizedEvent",
    "StoreSetEvent",
    "StoreTransactionEndEvent",
    "StoreTransactionEvent",
    "StoreTransactionStartEvent",
    "StoreUpdateEvent",
    "TooLargeError",
    "TransportError",
    "UnavailableError",
    "UnsupportedOperationError",
    "Value",
    "Watch",
    "Written",
    "__version__",
    "check_key",
    "field",
    "missing",
    "open",
]
