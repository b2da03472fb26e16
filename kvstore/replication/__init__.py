"""One store made to follow another: only what is missing there travels.

>>> import kvstore
>>> from kvstore import replication
>>> with kvstore.open("memory:") as source, kvstore.open("memory:") as destination:
...     revision = source.set("runs/1", b"abc", metadata={"exposure": 30})
...     report = replication.sync(source, destination)
...     report.sent, destination.to_bytes("runs/1"), replication.sync(source, destination).same
(1, b'abc', 1)
"""

from __future__ import annotations

from kvstore.documents import JsonObject
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.following import follow as follow
from kvstore.replication.replication import Replication as Replication
from kvstore.replication.replication import Tell
from kvstore.replication.report import Outcome as Outcome
from kvstore.replication.report import SyncReport as SyncReport
from kvstore.replication.rules import Deletions, OnConflict, PermissionRule
from kvstore.replication.rules import Rules as Rules
from kvstore.replication.sending import Transfer
from kvstore.store import Store


def sync(
    source: ReadOnlyStore,
    destination: Store,
    *,
    where: JsonObject | None = None,
    prefix: str = "",
    on_conflict: OnConflict = "report",
    deletions: Deletions = "follow",
    permissions: PermissionRule = "keep",
    requires: str | None = None,
    attempts: int = 3,
    name: str | None = None,
    tell: Tell | None = None,
    transfer: Transfer | None = None,
    memory: Store | None = None,
) -> SyncReport:
    """Bring *destination* up to date with *source*, once.

    It may be killed at any moment, and run again: what was sent is not sent again.

    Args:
        where, prefix, on_conflict, deletions, permissions, requires, attempts, name: see
            :class:`Rules`.
        tell: called with the `Outcome` of each record.
        transfer: called with the key of large data that begin to travel; returns what is called as
            ``progress(done, total)`` then, in bytes.
        memory: the store that remembers what was in step; the destination if None. Always the same
            one for a source and a destination.

    Returns:
        How many records came to what, and the conflicts and failures by name.

    Raises:
        InvalidRequestError: a rule that has no meaning, or a destination that cannot be written.
        StoreError: the source cannot be listed, the destination cannot be asked, or one of them is
            out of reach. What fails of one record is in the report instead.
    """
    rules = Rules(
        where=where,
        prefix=prefix,
        on_conflict=on_conflict,
        deletions=deletions,
        permissions=permissions,
        requires=requires,
        attempts=attempts,
        name=name,
    )
    with Replication(
        source, destination, rules, tell=tell, transfer=transfer, memory=memory
    ) as replication:
        replication.run()
        return replication.report
