"""Commands about who may use a server: ``token create``, ``list`` and ``revoke``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvstore.cli.arguments import TOKEN_VARIABLE, Place, store_url
from kvstore.cli.beside import default_store, tokens_file
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column, iso_time, show_time

if TYPE_CHECKING:
    from kvstore.server.access.token_file import Token
    from kvstore.server.access.tokens import Tokens

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: The tag of the user of a store that has no others.
_LOCAL = "local"
_DAYS = re.compile(r"([0-9]{1,5})d")
_COLUMNS = (
    Column("name"),
    Column("user"),
    Column("tags", ", ".join),
    Column("scopes", ", ".join),
    Column("created", show_time, iso_time),
    Column("expires", show_time, iso_time),
    Column("last_used", show_time, iso_time),
)


@click.group("token")
@output_options
def token_command() -> None:
    """Tokens: who may use the server over a store.

    A server that runs takes notice within a second. The store is the one that `kvstore serve`
    would serve; --tokens names the file instead, as it does there.
    """


def _on_tokens(command: _Command) -> _Command:
    command = click.option(
        "--tokens", "file", type=click.Path(path_type=Path, dir_okay=False), help="Their file."
    )(command)
    return click.argument("store", required=False)(command)


@token_command.command("create")
@click.argument("name")
@_on_tokens
@click.option("--user", metavar="TAG", help="The tag of its user.  [default: as its name]")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A further tag, as of a group.")
@click.option("--read-only", is_flag=True, help="As --scope read.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write", "metrics"]),
    help="What it is for.  [default: read and write]",
)
@click.option(
    "--expires",
    default="90d",
    show_default=True,
    metavar="TIME",
    help="After so many days (30d), on a day (2030-12-31, at its end in UTC), or never.",
)
@output_options
@with_output
def create(output: Output, /, name: str, store: str | None, file: Path | None, **more: Any) -> None:
    """Make a token called NAME, and show it, this once.

    What its user may do with a key is said by the permissions of that key; whatever the user makes
    is owned by the tag of the user. Keys that were made before there were tokens are owned by
    `local`: --user local goes on with these.
    """
    expires = _expiry(more["expires"])
    scopes = _scopes(more["scopes"], is_read_only=more["read_only"])
    tokens = _tokens(store, file, is_to_be=True)
    is_first = not tokens.exists()
    token, text = tokens.create(
        name, user=more["user"], tags=more["tags"], scopes=scopes, expires=expires
    )
    if not output.for_people:
        output.result(
            "", {"token": text, **_row(token, None)} if output.as_json else {"token": text}
        )
        return
    _show(output, token, text)
    if is_first and token.user != _LOCAL:
        output.line("From now on everybody needs one. What was stored before is owned by 'local':")
        output.line("a token for that is made with --user local.")


def _show(output: Output, token: Token, text: str) -> None:
    output.line(text)
    until = "for ever" if token.expires is None else f"until {show_time(token.expires)}"
    for sentence in (
        f"This is the token {token.name!r} of the user {token.user!r}, {until}.",
        "It is not shown again and kept nowhere; whoever has it is that user.",
        f"For commands, put it into the environment as {TOKEN_VARIABLE}, from a file that only its",
        "user can read; in Python, kvstore.open(url, token=...).",
    ):
        output.line(output.shown(sentence))


@token_command.command("list")
@_on_tokens
@output_options
@with_output
def list_command(output: Output, /, store: str | None, file: Path | None) -> None:
    """List the tokens, which are not shown themselves."""
    tokens = _tokens(store, file)
    rows = [_row(token, tokens.last_used(token)) for token in tokens.load().values()]
    rows.sort(key=lambda row: row["name"])
    if output.as_json:
        output.documents(rows)
    else:
        output.table(_COLUMNS, (list(row.values()) for row in rows))


@token_command.command("revoke")
@click.argument("name")
@_on_tokens
@output_options
@with_output
def revoke(output: Output, /, name: str, store: str | None, file: Path | None) -> None:
    """Forget the token called NAME: whoever has it gets in no more."""
    token = _tokens(store, file).revoke(name)
    output.result(
        f"Revoked {name!r} of the user {token.user!r}", {"name": name, "user": token.user}
    )


def _tokens(store: str | None, file: Path | None, *, is_to_be: bool = False) -> Tokens:
    try:
        from kvstore.server.access.tokens import Tokens
    except ModuleNotFoundError as error:
        raise click.UsageError(f"Tokens need: pip install 'kvstore[server]' ({error})") from None
    if file is not None:
        return Tokens(file)
    url = store_url(default_store() if store is None else store)
    found = tokens_file(url)
    if found is None:
        raise click.UsageError("A store that is in no folder keeps its tokens where --tokens says")
    if not found.exists():
        # A folder that holds tokens and nothing else would be taken for no store, or another one.
        place = Place(url, ())
        with place.open() if is_to_be else place.open_existing():
            pass
    return Tokens(found)


def _scopes(names: Sequence[str], *, is_read_only: bool) -> Any:
    if names and is_read_only:
        raise click.UsageError("--read-only is --scope read; say one of them")
    return names or (["read"] if is_read_only else ["read", "write"])


def _expiry(text: str) -> float | None:
    if text == "never":
        return None
    days = _DAYS.fullmatch(text)
    if days is not None:
        return time.time() + int(days[1]) * 86_400
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        message = (
            f"--expires is a number of days (90d), a day (2030-12-31) or never, not {text!a:.50}"
        )
        raise click.UsageError(message) from None
    return day.timestamp() + 86_400


def _row(token: Token, last_used: float | None) -> dict[str, Any]:
    return {
        "name": token.name,
        "user": token.user,
        "tags": sorted(token.tags),
        "scopes": sorted(token.scopes),
        "created": token.created,
        "expires": token.expires,
        "last_used": last_used,
    }
