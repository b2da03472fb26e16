"""The command that copies between stores: ``cp``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, Literal

import click

from kvstore.cli.arguments import Place, store_url
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.cli.spelling import show_size
from kvstore.documents import JsonObject
from kvstore.errors import ConflictError, KeyNotFoundError, StoreError
from kvstore.store import AuthorizingStore


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--prefix", help="Copy the keys that begin with this.")
@click.option("--glob", metavar="PATTERN", help="Copy the keys that match these shell wildcards.")
@click.option("--skip-existing", is_flag=True, help="Leave keys alone that TARGET has.")
@output_options
@with_output
def cp(output: Output, /, source: str, target: str, keys: tuple[str, ...], **asked: Any) -> None:
    """Copy keys from the store SOURCE to the store TARGET.

    All of them, if none is given. Data, metadata and media type are copied, each key as one, and
    data streams from one to the other. Permissions are not: the new keys belong to you.
    """
    which = {name: asked[name] for name in ("prefix", "glob") if asked[name] is not None}
    if keys and which:
        raise click.UsageError("Give KEYs, or --prefix and --glob, not both")
    read = Place(store_url(source), ())
    write = Place(store_url(target), ())
    with read.open_existing() as old, write.open() as new:
        # Counting may take as long as listing: only where somebody is there to see it.
        count = (len(keys) or old.count(**which)) if sys.stderr.isatty() else None
        with Transfers(count) as transfers:
            job = _Copy(old, new, transfers, skip_existing=asked["skip_existing"])
            outcomes = job.named(keys) if keys else job.found(old.query_keys(**which))
            if output.for_people:
                summary = _summary(outcomes)
            else:
                summary = None
                for outcome in outcomes:
                    output.result("", outcome)
    if summary is not None:
        output.line(summary)


class _Copy:
    """Copies keys one by one, and tells what became of each."""

    def __init__(
        self,
        old: AuthorizingStore,
        new: AuthorizingStore,
        transfers: Transfers,
        *,
        skip_existing: bool,
    ) -> None:
        self._old = old
        self._new = new
        self._transfers = transfers
        self._skip_existing = skip_existing
        self._done = 0

    def named(self, keys: Iterable[str]) -> Iterator[JsonObject]:
        """Copy these keys, all of which must be there."""
        return map(self._copy, keys)

    def found(self, keys: Iterable[str]) -> Iterator[JsonObject]:
        """Copy the keys that a query finds, but for those deleted since it found them."""
        for key in keys:
            try:
                outcome = self._copy(key)
            except KeyNotFoundError:
                continue
            yield outcome

    def _copy(self, key: str) -> JsonObject:
        try:
            outcome = self._copied(key)
        except (StoreError, OSError) as error:
            if self._done:
                error.add_note(f"That was {key!a:.100}; copied before it: {self._done}.")
            raise
        self._done += 1
        self._transfers.advance()
        return outcome

    def _copied(self, key: str) -> JsonObject:
        skipped = {"key": key, "status": "skipped", "size": None, "revision": None}
        if self._skip_existing and self._new.exists(key):
            return skipped
        with closing(self._old.get(key)) as value:
            progress = self._transfers.of(f"copy {key}")
            create: Literal["*"] | None = "*" if self._skip_existing else None
            try:
                revision = self._new.set(key, value, if_none_match=create, progress=progress)
            except ConflictError:
                if not self._skip_existing:
                    raise
                return skipped  # somebody else made it just now
        return {"key": key, "status": "copied", "size": value.size, "revision": revision}


def _summary(outcomes: Iterable[JsonObject]) -> str:
    copied = skipped = size = 0
    for outcome in outcomes:
        if outcome["status"] == "copied":
            copied += 1
            size += outcome["size"]
        else:
            skipped += 1
    keys = "1 key" if copied == 1 else f"{copied} keys"
    left = f", {skipped} skipped" if skipped else ""
    return f"{keys} copied, {show_size(size)}{left}"
