"""The command that puts a store on the wire: ``serve``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kvstore.cli.arguments import store_url, url_in
from kvstore.cli.output import Output, output_options, with_output
from kvstore.opening import folder_of, open_store

DEFAULT_FOLDER = "./kvstore-data"
# Options that only some stores have, and the schemes of these.
_STORES_WITH = {"keep_versions": ("sqlite", "memory"), "durable": ("sqlite", "file")}
_UPLOADS = {"sqlite": "uploads", "file": ".kvstore/uploads"}
_EVERYWHERE = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not listened at


@click.command()
@click.argument("store", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes any."
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Answer to this host name, too, as clients or a proxy write it; * for all.",
)
@click.option("--insecure", is_flag=True, help="Let other machines read and change everything.")
@click.option(
    "--keep-versions",
    type=click.IntRange(0),
    metavar="N",
    help="Keep so many earlier versions of each key (sqlite: and memory: stores).",
)
@click.option(
    "--durable",
    is_flag=True,
    help="Answer a write when it would survive a power cut (sqlite: and file: stores).",
)
@output_options
@with_output
def serve(
    output: Output, /, store: str | None, host: str, port: int, names: Sequence[str], **more: Any
) -> None:
    """Serve STORE over HTTP until Ctrl-C.

    The default is sqlite:./kvstore-data, made if it is missing; if there is a file: store in that
    folder, it is that one. There is no access control yet, so the server listens to this machine
    only.
    """
    said = default_store() if store is None else store
    url = store_url(said)
    options = {name: more[name] for name in _STORES_WITH if more[name]}
    _check_options(url, options)
    # Starlette and uvicorn are an extra of their own, and take long to import.
    try:
        from kvstore.server import serve as run
        from kvstore.server.hosts import LOCAL
        from kvstore.server.run import is_loopback
    except ModuleNotFoundError as error:
        raise click.UsageError(f"Serving needs: pip install 'kvstore[server]' ({error})") from None
    if not more["insecure"] and not is_loopback(host):
        raise click.UsageError(
            f"At {host!a:.100} other machines can read and change everything; "
            "if that is wanted add --insecure"
        )
    hosts = (*LOCAL, *([] if host in _EVERYWHERE else [host]), *names) if names else None

    def ready(address: str) -> None:
        output.result(f"Serving {_shown(said)} at {address} (Ctrl-C ends it)", {"url": address})
        sys.stdout.flush()

    with open_store(url, **options) as opened:
        run(
            opened,
            host,
            port,
            hosts=hosts,
            insecure=more["insecure"],
            ready=ready,
            uploads_folder=_uploads_folder(url),
        )


def default_store() -> str:
    """Return the URL of the store that is served if none is named."""
    # Until SQLiteStore came it was a FileSystemStore: who has one there has data in it.
    there = url_in(Path(DEFAULT_FOLDER)) or "sqlite:"
    return f"{there.partition(':')[0]}:{DEFAULT_FOLDER}"


def _uploads_folder(url: str) -> Path | None:
    """Return where the uploads to a store are kept, so that a server that begins anew has them.

    That is within the store's folder, where the store has no use for the name.
    """
    inside = _UPLOADS.get(url.partition(":")[0])
    return None if inside is None else folder_of(url).absolute() / inside


def _check_options(url: str, options: dict[str, Any]) -> None:
    scheme = url.partition(":")[0]
    for name in options:
        if scheme not in _STORES_WITH[name]:
            flag = f"--{name.replace('_', '-')}"
            schemes = " and ".join(f"{known}:" for known in _STORES_WITH[name])
            raise click.UsageError(f"{flag} is for {schemes} stores, not for {_shown(url)!a:.100}")


def _shown(store: str) -> str:
    scheme, separator, rest = store.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else store
