"""The command that puts a store on the wire: ``serve``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from kvstore.cli.arguments import store_url
from kvstore.cli.output import Output, output_options, with_output
from kvstore.opening import open_store

DEFAULT_STORE = "file:./kvstore-data"
_EVERYWHERE = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not listened at


@click.command()
@click.argument("store", default=DEFAULT_STORE, metavar="[STORE]")
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
@output_options
@with_output
def serve(
    output: Output, /, store: str, host: str, port: int, names: Sequence[str], **more: Any
) -> None:
    """Serve STORE over HTTP until Ctrl-C.

    The default is file:./kvstore-data, made if it is missing. There is no access control yet, so
    the server listens to this machine only.
    """
    url = store_url(store)
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
        output.result(f"Serving {_shown(store)} at {address} (Ctrl-C ends it)", {"url": address})
        sys.stdout.flush()

    with open_store(url) as opened:
        run(opened, host, port, hosts=hosts, insecure=more["insecure"], ready=ready)


def _shown(store: str) -> str:
    scheme, separator, rest = store.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else store
