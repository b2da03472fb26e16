"""Commands between a store and a folder of files: ``import`` and ``export``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kvstore.cli.arguments import Place, is_url, on_store, parse_document, url_in
from kvstore.cli.copying import Copy, Rules, extent_of
from kvstore.cli.failures import FAILED, sentence_of
from kvstore.cli.headers import Headers
from kvstore.cli.output import Output, complain, output_options, with_output
from kvstore.cli.plain import PlainFolder
from kvstore.cli.progress import Transfers
from kvstore.cli.summaries import Tally, counted, tallied
from kvstore.errors import StorageError
from kvstore.query import Query
from kvstore.store import ReadOnlyStore
from kvstore.stores.filesystem import FileSystemStore

_BATCH = 200


@click.command("import")
@on_store("DIR")
@click.option("--prefix", default="", help="What the keys begin with, before the path of a file.")
@click.option("--update", is_flag=True, help="Leave keys alone that are as they would become.")
@click.option("--no-headers", is_flag=True, help="Take no metadata from FITS headers and EXIF.")
@output_options
@with_output
def import_command(output: Output, /, place: Place, **asked: Any) -> int:
    """Store every file below the folder DIR, under its path.

    Metadata is what m31.fits.meta.json says of m31.fits, a JSON object; then, with
    kvstore[readers], what the file says in its FITS header or EXIF. If DIR is a store, such as
    `kvstore export` makes, its keys are copied as they are, permissions included.

    Left out are what is hidden, symbolic links, and folders in DIR that are stores. The exit code
    is 1 if a file could not be stored; the others are. Where STORE is not the first argument, write
    photos, not ./photos.
    """
    folder = _folder(place)
    with os.scandir(folder):  # what cannot be read makes no store
        pass
    if place.url.startswith("file:"):
        _check_room(place.folder)  # as with the two folders the wrong way round
    headers = None if asked["no_headers"] else Headers()
    inside = url_in(folder)
    plain = PlainFolder(folder, headers) if inside is None else None
    rules = Rules(
        existing="update" if asked["update"] else "replace",
        prefix=asked["prefix"],
        permissions=True,
        batch=_BATCH,
        failure="tell",
        done="imported",
    )
    source = plain if plain is not None else Place(inside or "", ()).open_existing()
    with source as old, place.open() as new:
        size = _size(old) if sys.stderr.isatty() else None
        with _Whole("import", size) as transfers:
            job = Copy(old, new, transfers, rules)
            tally = tallied(output, job.found(old.query_keys()))
    failures = list(job.failures)
    left_out: Counter[str] = Counter()
    if plain is not None:
        failures += map(sentence_of, plain.unreadable)
        left_out = plain.left_out
    _tell_import(output, tally, left_out, failures)
    if headers is not None:
        _tell_headers(headers)
    return FAILED if failures else 0


@click.command()
@on_store("DIR")
@click.option("--prefix", default="", help="Only the keys that begin with this.")
@click.option("--where", metavar="JSON", help="Only those a filter finds, see `kvstore query`.")
@output_options
@with_output
def export(output: Output, /, place: Place, prefix: str, where: str | None) -> int:
    """Write each key as a file in the folder DIR.

    The metadata of m31.fits is in m31.fits.meta.json beside it, with media type and permissions.
    Keys that make no good file names are escaped; `kvstore import` gets them back. DIR is made if
    it is missing, and becomes a file: store; a folder with other files is refused.
    """
    folder = _folder(place)
    document = None if where is None else parse_document(where, "--where")
    _check_room(folder)
    rules = Rules(permissions=True, failure="tell", done="exported")
    with place.open_existing() as old:
        keys = old.query_keys(prefix=prefix, where=document)
        extent = extent_of(old, prefix=prefix, where=document)
        with FileSystemStore(folder) as new, Transfers(*extent) as transfers:
            job = Copy(old, new, transfers, rules)
            tally = tallied(output, job.found(keys))
    if output.for_people:
        output.line(tally.sentence("exported"))
    for failure in job.failures:
        complain(f"Not exported: {failure}")
    return FAILED if job.failures else 0


class _Whole(Transfers):
    """One bar for the bytes of all transfers; *size* is how many there are."""

    def __init__(self, label: str, size: int | None) -> None:
        super().__init__()
        self._label = label
        self._size = -1 if size is None else size
        self._at = 0

    def of(self, label: str) -> Callable[[int, int], None]:
        """Return the ``progress=`` function of a transfer that begins now."""
        begin, move = self._at, super().of(self._label)

        def progress(done: int, total: int) -> None:
            self._at = begin + done
            move(self._at, self._size)

        return progress


def _folder(place: Place) -> Path:
    (word,) = place.words
    if is_url(word):
        raise click.UsageError(
            f"DIR is the path of a folder, and comes last; {word!a:.100} is none"
        )
    folder, own = Path(word), place.folder
    if own is not None and folder.resolve().is_relative_to(own.resolve()):
        raise click.UsageError(f"The folder {word!a:.100} is that of the store, or in it")
    return folder


def _check_room(folder: Path | None) -> None:
    """Check that a FileSystemStore in *folder* would have it for itself."""
    if folder is None or not os.path.lexists(folder) or (folder / ".kvstore").is_dir():
        return
    if any(folder.iterdir()):
        message = f"The folder {str(folder)!r:.200} has other files in it; give one that is empty."
        raise StorageError(message)


def _size(store: ReadOnlyStore) -> int:
    if isinstance(store, PlainFolder):
        return store.size()
    return sum(record.size for record in store.find(Query()))


def _tell_import(output: Output, tally: Tally, left_out: Counter[str], failures: list[str]) -> None:
    parts = [
        f"{number} hidden" if kind == "hidden" else counted(number, kind)
        for kind, number in sorted(left_out.items())
        if kind != "sidecar"
    ]
    for failure in failures:
        complain(f"Not imported: {failure}")
    if not output.for_people:
        if parts:
            complain(f"Left out: {', '.join(parts)}.")
        return
    if failures:
        parts.append(f"{len(failures)} failed")
    sidecars = left_out["sidecar"]
    number = sum(left_out.values()) - sidecars + len(failures)
    said = f"{tally.counts['imported']} imported, {tally.counts['skipped']} skipped"
    detail = f" ({', '.join(parts)})" if parts else ""
    beside = f"; {counted(sidecars, 'sidecar')} read" if sidecars else ""
    output.line(f"{said}, {number} not imported{detail}{beside}")


def _tell_headers(headers: Headers) -> None:
    if headers.missing:
        complain("Install kvstore[readers] to read FITS headers and EXIF.")
    if headers.broken:
        first, number = headers.broken[0], len(headers.broken)
        complain(f"{counted(number, 'header')} could not be read; the first: {first}")
