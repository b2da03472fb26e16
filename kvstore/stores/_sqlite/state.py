"""What the index says of the store as a whole; it holds for all who use it."""

from __future__ import annotations

import math
import sqlite3
from typing import NamedTuple

from kvstore.history import KEEP_CHANGES

_READ = "SELECT oldest, fields, keep_versions, keep_changes, keep_changes_for FROM state"


class State(NamedTuple):
    """The one row of the table of that name."""

    #: Changes before this one are forgotten.
    oldest: int
    #: Counts what happens to the indexes of fields.
    fields: int
    #: How many earlier versions of a key, how many changes, and for how many seconds.
    keep_versions: int
    keep_changes: int
    keep_changes_for: float


class Keeping(NamedTuple):
    """What somebody wants to be kept; None: as it is."""

    versions: int | None
    changes: int | None
    seconds: float | None


def create_state(connection: sqlite3.Connection) -> None:
    """Fill the table when it is new."""
    values = State(1, 0, 0, KEEP_CHANGES, math.inf)
    connection.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?)", values)


def read_state(connection: sqlite3.Connection) -> State:
    """Return the row."""
    return State(*connection.execute(_READ).fetchone())


def is_kept(state: State, keeping: Keeping) -> bool:
    """Tell whether the store keeps what is wanted."""
    wanted = zip(keeping, state[2:], strict=True)
    return all(value is None or value == now for value, now in wanted)


def keep(connection: sqlite3.Connection, keeping: Keeping) -> None:
    """Have the store keep what is wanted, from now on."""
    connection.execute(
        "UPDATE state SET keep_versions = coalesce(?, keep_versions), "
        "keep_changes = coalesce(?, keep_changes), "
        "keep_changes_for = coalesce(?, keep_changes_for)",
        keeping,
    )
