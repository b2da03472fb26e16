"""Commands about ``MANIFEST.yaml``: ``manifest build`` and ``verify``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvstore.cli.arguments import Place, is_url, url_in
from kvstore.cli.failures import FAILED
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column
from kvstore.cli.summaries import counted

if TYPE_CHECKING:
    from kvstore.manifest import FolderFiles, StoreFiles, Verification

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group("manifest")
@output_options
def manifest_command() -> None:
    """Manifests: which files a dataset consists of, and their checksums.

    A dataset is a folder, or the keys of a store below a prefix. Its MANIFEST.yaml is that of the
    LabInform datasafe, with the SHA-256 of each file beside it.
    """


def _on_dataset(command: _Command) -> _Command:
    command = click.argument("prefix", default="", metavar="[PREFIX]")(command)
    return click.argument("place", metavar="FOLDER|STORE")(command)


@manifest_command.command("build")
@_on_dataset
@click.option("--loi", default="", help="The identifier of the dataset.")
@click.option("--format", "data_format", default="undetected", help="The format of its data.")
@output_options
@with_output
def build_command(output: Output, /, place: str, prefix: str, loi: str, data_format: str) -> None:
    """Write MANIFEST.yaml for a dataset, in place of the one that is there.

    Files that end with .info or .yaml are its metadata, all others its data.
    """
    with _files(place, prefix) as files:
        from kvstore.manifest import build, write

        manifest = build(files, loi=loi, data_format=data_format)
        write(files, manifest)
    count = len(manifest.names)
    row = {"files": count, "checksum": manifest.checksum, "data_checksum": manifest.data_checksum}
    output.result(f"{counted(count, 'file')}, checksum {manifest.checksum}", row)


@manifest_command.command("verify")
@_on_dataset
@output_options
@with_output
def verify_command(output: Output, /, place: str, prefix: str) -> int:
    """Read a dataset again, and tell what is not as its MANIFEST.yaml says.

    The exit code is 1 if anything is not. Files that are in no manifest are told, too.
    """
    with _files(place, prefix) as files:
        from kvstore.manifest import verify

        verification = verify(files)
    _print(output, verification)
    return 0 if verification else FAILED


@contextlib.contextmanager
def _files(place: str, prefix: str) -> Iterator[FolderFiles | StoreFiles]:
    # PyYAML is an extra of its own.
    try:
        from kvstore.manifest import FolderFiles, StoreFiles
    except ModuleNotFoundError as error:
        message = f"Manifests need: pip install 'kvstore[manifest]' ({error})"
        raise click.UsageError(message) from None
    url = place if is_url(place) else url_in(Path(place))
    if url is None:
        yield FolderFiles(Path(place) / prefix)
        return
    store = Place(url, ()).open_existing()
    with store:
        yield StoreFiles(store, prefix)


def _print(output: Output, verification: Verification) -> None:
    document = {**verification.to_document(), "extra": list(verification.extra)}
    if output.as_json:
        output.document(document)
        return
    named = [
        (word, name)
        for word, names in document.items()
        if isinstance(names, list)
        for name in names
    ]
    if output.for_people:
        for word, name in named:
            output.line(f"{word}: {output.shown(name)}")
        is_so = "as" if verification else "not as"
        output.line(f"The dataset is {is_so} its manifest says.")
        return
    sums: list[tuple[str, object]] = [("data", verification.data), ("all", verification.all)]
    output.table([Column("what"), Column("name")], [*sums, *named])
