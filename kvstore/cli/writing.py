"""Commands that write data: ``set`` and ``rm``."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kvstore.cli.arguments import Place, on_store, parse_document, parse_pairs
from kvstore.cli.documents import if_match_option
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.streams import Data
from kvstore.writes import missing

# Without the files of the system: the same name means the same type everywhere.
_TYPES = mimetypes.MimeTypes(filenames=())
for _suffix in (".fits", ".fit", ".fts"):
    _TYPES.add_type("image/fits", _suffix)  # RFC 4047
for _suffix in (".nc", ".nc4"):
    _TYPES.add_type("application/x-netcdf", _suffix)


@click.command("set")
@on_store("KEY FILE")
@click.option("-m", "pairs", multiple=True, metavar="NAME=VALUE", help="A field of the metadata.")
@click.option("--metadata", "document", metavar="JSON", help="All of the metadata, or @FILE.")
@click.option("--mimetype", metavar="TYPE", help="Media type; by the name of FILE if not given.")
@click.option("--create", is_flag=True, help="Only if there is no such key.")
@if_match_option
@output_options
@with_output
def set_command(output: Output, /, place: Place, **given: Any) -> None:
    """Store the content of FILE under KEY; - is the standard input.

    With -m or --metadata the metadata is replaced; without, a key that exists keeps what it has. A
    VALUE is JSON where it is JSON, else text: -m exposure=30 -m 'tags=["a","b"]' -m title=M31.
    """
    key, file = place.words
    if given["create"] and given["if_match"] is not None:
        raise click.UsageError("--create and --if-match exclude each other")
    metadata = None
    if given["document"] is not None or given["pairs"]:
        document = given["document"]
        metadata = {} if document is None else parse_document(document, "--metadata")
        metadata.update(parse_pairs(given["pairs"]))
    data: Data = sys.stdin.buffer if file == "-" else Path(file)
    options = {
        "mimetype": given["mimetype"] or (None if file == "-" else _type_of(file)),
        "if_match": given["if_match"],
        "if_none_match": "*" if given["create"] else None,
    }
    with place.open() as store, Transfers() as transfers:
        options["progress"] = transfers.of(f"set {key}")
        if metadata is None:
            revision = store.set_data(key, data, **options)
        else:
            revision = store.set(key, data, metadata=metadata, **options)
    output.result(f"{key}: stored, revision {revision}", {"key": key, "revision": revision})


@click.command()
@on_store("KEY...")
@click.option("--missing-ok", is_flag=True, help="Keys that are not there are no error.")
@if_match_option
@output_options
@with_output
def rm(output: Output, /, place: Place, missing_ok: bool, if_match: str | None) -> None:
    """Remove keys; none of them if one is not there."""
    keys: Sequence[str] = tuple(dict.fromkeys(place.words))
    if if_match is not None and len(keys) > 1:
        raise click.UsageError("--if-match is for one KEY")
    with place.open_existing() as store:
        there = [key for key in keys if store.exists(key)]
        gone = [key for key in keys if key not in set(there)]
        if gone and not missing_ok:
            raise missing(gone[0])
        for key in there:
            store.delete(key, if_match=if_match)
            output.result(f"{key}: removed", {"key": key})


def _type_of(file: str) -> str | None:
    kind, encoding = _TYPES.guess_type(Path(file).name)
    return kind if encoding is None else None
