"""The options of ``serve``, and which setting each of them is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)
_LIMIT = re.compile(r"([a-z_]+)=(.+)")

#: Parameters of the command, and the settings that they are.
SETTINGS = {
    "store": "store",
    "host": "host",
    "port": "port",
    "names": "allow_hosts",
    "tls_cert": "tls.cert",
    "tls_key": "tls.key",
    "insecure": "insecure",
    "proxies": "trusted_proxies",
    "tokens": "access.tokens",
    "public_read": "access.public_read",
    "is_open": "access.open",
    "oidc_issuer": "oidc.issuer",
    "oidc_audience": "oidc.audience",
    "workers": "workers",
    "grace": "grace",
    "log_format": "log_format",
    "metrics": "metrics",
    "reads": "reads",
    "gateways": "gateways",
    "keep_versions": "keep_versions",
    "durable": "durable",
}

_OPTIONS = (
    click.option("--config", type=_FILE, help="Read settings from this file, in TOML."),
    click.option("--check", is_flag=True, help="Print the settings in force, and serve nothing."),
    click.option("--host", help="Address to listen at.  [default: 127.0.0.1]"),
    click.option("--port", type=click.IntRange(0, 65535), help="0 takes any.  [default: 8000]"),
    click.option(
        "--allow-host",
        "names",
        multiple=True,
        metavar="NAME",
        help="Answer to this host name, too, as clients or a proxy write it; * for all.",
    ),
    click.option("--tls-cert", type=_FILE, help="Serve https with this certificate, in PEM."),
    click.option("--tls-key", type=_FILE, help="The private key of that certificate."),
    click.option(
        "--insecure",
        is_flag=True,
        help="Let other machines in without TLS: tokens and data travel in clear text.",
    ),
    click.option(
        "--trusted-proxy",
        "proxies",
        multiple=True,
        metavar="ADDRESS",
        help="Believe the X-Forwarded-For of this address or network.",
    ),
    click.option("--tokens", type=_FILE, help="File of the tokens, if not beside the store."),
    click.option("--public-read", is_flag=True, help="Let everybody read what is tagged public."),
    click.option("--open", "is_open", is_flag=True, help="Let everybody do everything."),
    click.option("--oidc-issuer", metavar="URL", help="Take tokens of this OpenID provider, too."),
    click.option("--oidc-audience", metavar="NAME", help="What these must be meant for."),
    click.option("--workers", type=click.IntRange(1), help="Processes that answer.  [default: 1]"),
    click.option(
        "--grace",
        type=click.FloatRange(0, 86400),
        metavar="SECONDS",
        help="Time for answers on their way when it is told to end.  [default: 10]",
    ),
    click.option(
        "--log",
        "log_format",
        type=click.Choice(["auto", "text", "json", "none"]),
        help="Of the lines on standard error, one a request.  [default: text on a terminal]",
    ),
    click.option("--metrics/--no-metrics", help="Whether there are metrics, at /metrics."),
    click.option(
        "--reads",
        type=click.Choice(["checked", "plain"]),
        help="Hash data while they are sent, or have the kernel send them.  [default: checked]",
    ),
    click.option(
        "--gateway",
        "gateways",
        multiple=True,
        metavar="NAME",
        help="Serve the clients of another system, too: filetracker, datasafe, meteorpi, vospace.",
    ),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=NUMBER",
        help="A bound on requests, such as data=10000000000; --check shows them all.",
    ),
    click.option(
        "--keep-versions",
        type=click.IntRange(0),
        metavar="N",
        help="Keep so many earlier versions of each key (sqlite: and memory: stores).",
    ),
    click.option(
        "--durable",
        is_flag=True,
        help="Answer a write when it would survive a power cut (sqlite: and file: stores).",
    ),
)


def serve_options(command: _Command) -> _Command:
    """Give a command the options, and ``[STORE]``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return click.argument("store", required=False)(command)


def said(ctx: click.Context) -> dict[str, tuple[Any, str]]:
    """Return what was typed: the values of settings by their names, and how they are spelled there.

    Raises:
        click.UsageError: a limit that is spelled in another way.
    """
    found: dict[str, tuple[Any, str]] = {}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in SETTINGS and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            found[SETTINGS[name]] = ctx.params[name], parameter.opts[0]
    for text in ctx.params["limits"]:
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise click.UsageError(f"A limit is NAME=NUMBER, not {text!a:.100}")
        found[f"limits.{match[1]}"] = match[2], f"--limit {match[1]}"
    return found
