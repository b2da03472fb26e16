"""The command that puts a store on the wire: ``serve``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvstore.cli.arguments import store_url
from kvstore.cli.beside import default_store, tokens_file, uploads_folder
from kvstore.cli.failures import USAGE
from kvstore.cli.output import Output, complain, output_options, with_output
from kvstore.cli.serve_options import said, serve_options
from kvstore.errors import InvalidRequestError
from kvstore.opening import folder_of, open_store

if TYPE_CHECKING:
    from kvstore.server.running.settings import Settings

# Options that only some stores have, and the schemes of these.
_STORES_WITH = {"keep_versions": ("sqlite", "memory"), "durable": ("sqlite", "file")}


@click.command()
@serve_options
@output_options
@with_output
@click.pass_context
def serve(ctx: click.Context, output: Output, /, **more: Any) -> None:
    """Serve STORE over HTTP until Ctrl-C.

    The default is sqlite:./kvstore-data, made if it is missing; if there is a file: store in that
    folder, it is that one.

    As it is, this machine alone reaches the server, and may do everything. From the first
    `kvstore token create` on, and wherever other machines are spoken of, everybody needs a token.
    At another address it needs a certificate, too, or a proxy that has one.

    What can be said here can be said in a file (--config) and in the environment, where host is
    KVSTORE_SERVE_HOST and tls.cert is KVSTORE_SERVE_TLS_CERT; what is said here wins.
    """
    # Starlette and uvicorn are an extra of their own, and take long to import.
    try:
        from kvstore.server import serve as run
        from kvstore.server.access.admission import sentences
        from kvstore.server.gateways import gateways_of
        from kvstore.server.running.refusals import refusals
    except ModuleNotFoundError as error:
        raise click.UsageError(f"Serving needs: pip install 'kvstore[server]' ({error})") from None
    settings = _settings(ctx, more["config"])
    url = settings.store or ""
    options = {name: getattr(settings, name) for name in _STORES_WITH if getattr(settings, name)}
    refused = [*_misfits(url, options, settings.workers), *refusals(settings)]
    if more["check"]:
        _show(output, settings, [*refused])
        ctx.exit(USAGE if refused else 0)
    if refused:
        raise click.UsageError(refused[0])
    told, warned = sentences(settings)
    gateways = [(each.name, each.prefix) for each in gateways_of(settings)]

    def ready(address: str) -> None:
        output.result(f"Serving {_shown(url)} at {address} (Ctrl-C ends it)", {"url": address})
        for name, path in gateways if output.for_people else ():
            output.line(output.shown(f"Clients of {name}: {address}{path}"))
        for sentence in told if output.for_people else ():
            output.line(output.shown(sentence))
        for sentence in warned:
            complain(sentence)
        sys.stdout.flush()

    with open_store(store_url(url), **options) as opened:
        run(opened, settings, ready=ready)


def _settings(ctx: click.Context, config: Path | None) -> Settings:
    from kvstore.server.running.configuring import Given, from_environment, from_file, settings_of

    typed = {name: Given(value, place) for name, (value, place) in said(ctx).items()}
    try:
        layers = [{} if config is None else from_file(config), from_environment(os.environ), typed]
        settings = settings_of(layers)
    except InvalidRequestError as error:
        raise click.UsageError(error.message) from None
    store = default_store() if settings.store is None else settings.store
    url = store_url(store)
    access = settings.access
    return replace(
        settings,
        store=store,
        uploads=settings.uploads or uploads_folder(url),
        access=replace(access, tokens=access.tokens or tokens_file(url)),
    )


def _misfits(url: str, options: dict[str, Any], workers: int) -> list[str]:
    scheme = store_url(url).partition(":")[0]
    found = []
    for name in options:
        if scheme not in _STORES_WITH[name]:
            flag = f"--{name.replace('_', '-')}"
            schemes = " and ".join(f"{known}:" for known in _STORES_WITH[name])
            found.append(f"{flag} is for {schemes} stores, not for {_shown(url)!a:.100}.")
    if workers > 1 and scheme == "memory":
        found.append(f"{workers} processes cannot share a store in the memory of one.")
    folder = folder_of(url) if scheme in ("sqlite", "file") else None
    if folder is not None and not folder.absolute().parent.is_dir():
        found.append(f"There is no folder {str(folder.absolute().parent)!a:.200}.")
    return found


def _show(output: Output, settings: Settings, refused: list[str]) -> None:
    from kvstore.server.access.admission import sentences
    from kvstore.server.running.configuring import effective

    found = {**effective(settings), "store": _shown(settings.store or "")}
    output.document(found)
    for sentence in refused:
        complain(sentence)
    if not refused:
        told, warned = sentences(settings)
        for sentence in (*told, *warned):
            complain(sentence)


def _shown(store: str) -> str:
    scheme, separator, rest = store.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else store
