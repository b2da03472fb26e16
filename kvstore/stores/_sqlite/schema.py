"""The tables of the index, its format, and how an older one becomes the present one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from kvstore.errors import DamagedError, StorageError
from kvstore.stores._sqlite.state import create_state

#: What ``PRAGMA application_id`` says of our files: "kvst".
APPLICATION = 0x6B767374
#: What ``PRAGMA user_version`` says; raised by every change that older versions would trip over.
FORMAT = 1

#: Steps from the format of that number to the next; each is one transaction.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {}

# `change` is the journal, and holds what is current as well: `entry` says which row that is. So a
# write appends, and nothing is stored twice.
_TABLES = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL            -- its row in change
);
CREATE TABLE change (
    seq INTEGER PRIMARY KEY,
    action INTEGER NOT NULL,        -- 0 set, 1 update, 2 delete
    key TEXT NOT NULL,
    revision TEXT NOT NULL,
    metadata TEXT NOT NULL,         -- JSON
    permissions TEXT NOT NULL,      -- JSON
    created REAL NOT NULL,
    modified REAL NOT NULL,
    changed REAL NOT NULL,          -- as modified, but of a deletion when that was
    size INTEGER NOT NULL,
    mimetype TEXT NOT NULL,
    digest BLOB NOT NULL,           -- SHA-256 of the data
    blob INTEGER                    -- its row in blob; NULL where there are no bytes
);
CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    file TEXT,                      -- name of the file; NULL: the bytes are here
    data BLOB
);
CREATE UNIQUE INDEX blob_file ON blob (file) WHERE file IS NOT NULL;
CREATE TABLE version (              -- earlier versions that are kept
    key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) WITHOUT ROWID;
CREATE TABLE field (                -- every name that a query could ask for
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,         -- 0 no index, 1 an index in the making, 2 an index
    done INTEGER NOT NULL           -- entries up to this one are in the index in the making
);
CREATE TABLE term (                 -- the index: see terms.py
    slot INTEGER NOT NULL,
    value NOT NULL,
    id INTEGER NOT NULL,            -- of the entry
    PRIMARY KEY (slot, value, id)
) WITHOUT ROWID;
CREATE TABLE state (                -- one row: see state.py
    oldest INTEGER NOT NULL,
    fields INTEGER NOT NULL,
    keep_versions INTEGER NOT NULL,
    keep_changes INTEGER NOT NULL,
    keep_changes_for REAL NOT NULL
);
CREATE TABLE trash (                -- files that no row names any more
    file TEXT PRIMARY KEY
) WITHOUT ROWID;
"""


def prepare(connection: sqlite3.Connection, shown: str) -> None:
    """Make the tables in a new file, or bring those of an older format to the present one.

    Called with the file open for writing and no transaction begun; many processes may at once.

    Args:
        shown: names the store in errors.

    Raises:
        StorageError: a format that this version does not know.
        DamagedError: no file of ours.
    """
    # Another process may be making it right now, so that only what is as it should be counts; for
    # the rest, look again where nobody can come between.
    with contextlib.suppress(DamagedError):
        if _format(connection, shown) == FORMAT:
            return
    connection.execute("BEGIN IMMEDIATE")
    try:
        while (found := _format(connection, shown)) != FORMAT:
            if found is None:
                _create(connection)
                continue
            step = MIGRATIONS.get(found)
            if step is None:
                message = f"The store {shown} has format {found}; this version knows {FORMAT}."
                raise StorageError(message)
            step(connection)
            connection.execute(f"PRAGMA user_version = {found + 1}")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    create_state(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _format(connection: sqlite3.Connection, shown: str) -> int | None:
    """Return the format of the file, None for one that is empty."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION:
        return number
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        return None
    raise DamagedError(f"The index of the store {shown} is a database of something else.")
