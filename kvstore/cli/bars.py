"""How progress looks: a bar for the bytes of one key, and one for how many keys are done."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeColumn
from rich.text import Text


class Bars:
    """Bars on standard error, from now until `stop`.

    Args:
        stay: leave the count of keys standing.
    """

    def __init__(self, *, stay: bool = False) -> None:
        self._stay = stay
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Amount(),
            TimeColumn(compact=True),
            console=Console(stderr=True, markup=False, emoji=False, highlight=False),
            transient=not stay,
        )
        self._keys: TaskID | None = None
        self._bytes: TaskID | None = None
        self._label = ""
        self._progress.start()

    def move(self, label: str, done: int, total: int) -> None:
        """Show that the transfer called *label* is at *done* of *total* bytes (-1: unknown)."""
        known = None if total < 0 else total
        if self._bytes is None:
            self._bytes = self._progress.add_task(_short(label), total=known, completed=done)
        elif label != self._label:
            self._progress.reset(self._bytes, total=known, description=_short(label))
        self._label = label
        self._progress.update(self._bytes, completed=done)

    def whole(self, done: int, count: int, moved: int, size: int | None) -> None:
        """Show that *done* of *count* keys are done, and *moved* of *size* bytes, if known."""
        told: dict[str, Any] = {"keys": f"{done}/{count}", "moved": moved, "size": size}
        if self._keys is None:
            self._keys = self._progress.add_task("keys", total=size or count, **told)
        self._progress.update(self._keys, completed=moved if size else done, **told)

    def stop(self) -> None:
        """End the bars."""
        if self._stay and self._bytes is not None:
            self._progress.remove_task(self._bytes)
        self._progress.stop()


class _Amount(ProgressColumn):
    """Bytes and speed, or a count of keys and the bytes of all."""

    def render(self, task: Task) -> Text:
        keys = task.fields.get("keys")
        done = int(task.fields.get("moved", task.completed))
        total = task.fields.get("size", task.total)
        parts = [] if keys is None else [keys]
        if keys is None or done:
            parts.append(decimal(done) if total is None else f"{decimal(done)} of {decimal(total)}")
        if task.speed and (keys is None or total):  # else it is that of the keys
            parts.append(f"{decimal(int(task.speed))}/s")
        return Text(", ".join(parts))


def _short(label: str) -> str:
    return label if len(label) <= 40 else f"…{label[-39:]}"
