"""The command that shows the main job end to end, on real files: ``demo``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kvstore.cli.output import Output, output_options, with_output
from kvstore.documents import JsonObject, parse_object
from kvstore.errors import StorageError

#: In a wheel the sample data lies beside this module; in the repository among the examples.
_DATA = (Path(__file__).parent / "demo_data", Path(__file__).parents[2] / "examples" / "data")


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server up, until Ctrl-C, to try commands on.")
@click.option(
    "--data",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with other files, and their catalog.json.",
)
@output_options
@with_output
def demo(output: Output, /, keep: bool, folder: Path | None) -> None:
    """Show what a store does, on real observations.

    Starts a server over a temporary folder, stores the files of a catalog through it, and looks
    for them, changes them and copies them. Needs no network, and leaves nothing behind.
    """
    if output.as_json:
        raise click.UsageError("The demo is for people: it has no --json")
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
        raise click.UsageError("The demo runs a server, which needs: pip install 'kvstore[server]'")
    data = data_folder(folder)
    files = read_catalog(data)
    # Only now: server and tables take long to import, and other commands need neither.
    from kvstore.cli.tour import Tour
    from kvstore.server import serve_background
    from kvstore.stores.filesystem import FileSystemStore

    with (
        _without_proxy(),
        tempfile.TemporaryDirectory(prefix="kvstore-demo-") as root,
        serve_background(FileSystemStore(root)) as url,
    ):
        Tour(url, Path(root), data, files).run()
        if keep:
            _keep(url, files[0]["key"])


def _keep(url: str, key: str) -> None:
    click.echo("\nThe server stays up until Ctrl-C. Try in another terminal:\n")
    for command in (
        f"ls {url} --long",
        f"query {url} kind=image --select telescope,exposure",
        f"meta {url} {key}",
    ):
        click.echo(f"    kvstore {command}")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def data_folder(folder: Path | None = None) -> Path:
    """Return the folder with the files to show: *folder*, or that of the sample data.

    Raises:
        StorageError: there is no catalog in it.
    """
    places = _DATA if folder is None else (folder,)
    for place in places:
        if (place / "catalog.json").is_file():
            return place
    if folder is not None:
        raise StorageError(f"There is no catalog.json in the folder {str(folder)!r:.200}.")
    message = "The sample data is not installed; give a folder with a catalog.json by --data."
    raise StorageError(message)


def read_catalog(data: Path) -> list[JsonObject]:
    """Return the entries of the catalog in *data*: path, key, mimetype and metadata of each file.

    Raises:
        StorageError: there is none, or it says something else.
    """
    catalog = parse_object((data / "catalog.json").read_bytes(), what="catalog").get("files")
    entries: list[Any] = catalog if isinstance(catalog, list) else [None]
    for entry in entries:
        match entry:
            case {"path": str(), "key": str(), "mimetype": str(), "metadata": dict()}:
                continue
        wanted = "path, key, mimetype and metadata"
        raise StorageError(f"An entry of the catalog has {wanted}; this one is {entry!r:.100}.")
    if not entries:
        raise StorageError(f"The catalog in {str(data)!r:.200} has no files.")
    return entries


@contextlib.contextmanager
def _without_proxy() -> Iterator[None]:
    # Where the environment names a proxy, requests would send even what is for this machine there.
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = ",".join(
        filter(None, ("127.0.0.1", before or os.environ.get("NO_PROXY")))
    )
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
