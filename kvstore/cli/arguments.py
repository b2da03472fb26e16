"""What is typed behind a command: stores, ``name=value`` pairs, documents and ranges."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.output import complain
from kvstore.documents import Json, JsonObject, parse_json, parse_object
from kvstore.errors import AuthenticationError, InvalidRequestError, StorageError
from kvstore.opening import folder_of, open_store

STORE_VARIABLE = "KVSTORE_URL"
TOKEN_VARIABLE = "KVSTORE_TOKEN"  # noqa: S105 - the name of one

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FOLDER_URLS = ("sqlite:", "file:")
_SERVER_URLS = ("http://", "https://", "vos+http://", "vos+https://", "vos://")
_URLS = (*_FOLDER_URLS, *_SERVER_URLS)
# Folders that can be told from keys at sight. `data/` cannot: it may be the beginning of keys.
_FOLDER = re.compile(r"(?:\.{1,2}|~)(?:[/\\].*)?|/.*|[A-Za-z]:[/\\].*", re.DOTALL)
_LOCAL = re.compile(r"http://(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?")
# Fields of these names can be asked for by a filter only: `query` has other uses for the words.
_PARAMETERS = frozenset({"select", "where", "prefix", "glob", "order_by", "limit", "after"})
_RANGE = re.compile(r"([0-9]*):([0-9]*)", re.ASCII)
# In this order: a file of the name of the index may be a key of a FileSystemStore.
_HOLDS: dict[str, Callable[[Path], bool]] = {
    "file": lambda folder: (folder / ".kvstore").is_dir(),
    "sqlite": lambda folder: (folder / "kvstore.db").is_file(),
}


@dataclass(frozen=True, slots=True)
class Place:
    """The store that a command is about, and what was said behind it."""

    url: str
    words: tuple[str, ...]
    #: The variable that has the token for this one, where a command is about two stores; without
    #: it the token is as everywhere.
    variable: str | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that the store is in, None for one that is in none."""
        return folder_of(self.url) if self.url.startswith(_FOLDER_URLS) else None

    def open(self) -> AuthorizingStore:
        """Return the store, connected, to write to it; a folder is made if it is missing."""
        return _opened(self.url, self.variable)

    def open_existing(self) -> AuthorizingStore:
        """Return the store, connected, to read it.

        Raises:
            StorageError: a folder that holds no such store; opening it would make one there.
        """
        folder = self.folder
        if folder is not None and not _HOLDS[self.url.partition(":")[0]](folder):
            raise StorageError(f"There is no store in the folder {str(folder)!r:.200}.")
        return _opened(self.url, self.variable)


def _opened(url: str, variable: str | None) -> AuthorizingStore:
    """Open a store; a server with the token that is in the environment, where that is for it."""
    if not url.startswith(_SERVER_URLS):
        return open_store(url)
    own_token = os.environ.get(variable) if variable else None
    token = own_token or os.environ.get(TOKEN_VARIABLE)
    # The token of one server is nothing for another one, which would have it then.
    own = os.environ.get(STORE_VARIABLE)
    is_for_it = bool(own_token or (token and (not own or _origin(own) == _origin(url))))
    address = url.removeprefix("vos+")
    if is_for_it and address.startswith("http://") and not _LOCAL.fullmatch(_origin(address)):
        complain("The token travels in clear text: whoever is on the way can read it.")
    try:
        return open_store(url, token=token) if is_for_it else open_store(url)
    except AuthenticationError as error:
        error.add_note(f"Commands take it from {variable or TOKEN_VARIABLE}.")
        raise


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return f"{scheme}://{host}".lower()


def is_store(word: str) -> bool:
    """Tell whether *word* is spelled as a store is: a URL, or a folder such as ``./data``."""
    return is_url(word) or _FOLDER.fullmatch(word) is not None


def is_url(word: str) -> bool:
    """Tell whether *word* is spelled as the URL of a store is."""
    return word == "memory:" or word.startswith(_URLS)


def store_url(word: str) -> str:
    """Return the URL of the store that *word* names. That of a folder is whichever is in there.

    Raises:
        click.UsageError: it names none.
    """
    if not is_store(word):
        shown = ascii(word.rpartition("@")[2])  # what stands before it may be a password
        raise click.UsageError(
            f"{shown:.100} is no store; write sqlite:data, file:data, ./data, http://host or "
            "memory:"
        )
    if _FOLDER.fullmatch(word):
        folder = Path(word).expanduser().absolute()
        return url_in(folder) or folder.as_uri()
    return word


def url_in(folder: Path) -> str | None:
    """Return the URL of the store that is in *folder*, None if there is none."""
    for scheme, holds in _HOLDS.items():
        if holds(folder):
            return f"{scheme}:{folder.absolute().as_uri().partition(':')[2]}"
    return None


def on_store(words: str) -> Callable[[_Command], _Command]:
    """Give a command a `Place`: the arguments ``[STORE]`` and *words*, and the option ``--store``.

    The store is ``--store``; else the first argument, if it is spelled as a store; else what the
    environment says. So the environment never changes what a command with a store in it means.

    Args:
        words: as usage shows them: ``KEY``, ``[PREFIX]``, ``KEY...``.
    """
    least = sum(1 for word in words.split() if not word.startswith("["))
    most = None if words.endswith("...") else len(words.split())

    def parsed(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> Place:
        url, rest = _split(ctx, given)
        if len(rest) < least:
            raise click.UsageError(f"Missing {words.split()[len(rest)].removesuffix('...')}")
        if most is not None and len(rest) > most:
            raise click.UsageError(f"Unexpected argument {rest[most]!a:.100}")
        return Place(url, rest)

    def decorate(command: _Command) -> _Command:
        metavar = f"[STORE] {words}".rstrip()
        command = click.argument("place", nargs=-1, metavar=metavar, callback=parsed)(command)
        return click.option(
            "--store",
            envvar=STORE_VARIABLE,
            is_eager=True,
            expose_value=False,
            callback=_remember,
            metavar="STORE",
            help=f"The store, if it is not the first argument.  [env: {STORE_VARIABLE}]",
        )(command)

    return decorate


def _remember(ctx: click.Context, _: click.Parameter, word: str | None) -> None:
    ctx.meta["kvstore.store"] = word


def _split(ctx: click.Context, given: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    word = ctx.meta.get("kvstore.store")
    if word is not None and ctx.get_parameter_source("store") is ParameterSource.COMMANDLINE:
        return store_url(word), given
    if given and is_store(given[0]):
        return store_url(given[0]), given[1:]
    if word:
        return store_url(word), given
    if given:
        store_url(given[0])  # says what is wrong with it
    raise click.UsageError(f"Missing STORE, as no {STORE_VARIABLE} is in the environment")


def parse_pairs(words: Iterable[str]) -> JsonObject:
    """Return the fields that ``name=value`` words give; see :func:`parse_value`.

    Raises:
        click.UsageError: a word without ``=``, or two of one name.
    """
    fields: JsonObject = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise click.UsageError(f"Fields are given as name=value, not {word!a:.100}")
        if name in fields:
            raise click.UsageError(f"The field {name!a:.100} is given twice")
        fields[name] = parse_value(value)
    return fields


def parse_value(text: str) -> Json:
    """Return the JSON that *text* is, or else the text itself."""
    try:
        value: Json = parse_json(text.encode("utf-8", "surrogateescape"))
    except InvalidRequestError:
        return text
    return value


def parse_document(text: str, option: str) -> JsonObject:
    """Return the JSON object in *text*, or for ``@file`` in a file (``@-``: standard input).

    Raises:
        click.UsageError: it is none; *option* says where it was given.
        OSError: the file cannot be read.
    """
    if text == "@-":
        raw = sys.stdin.buffer.read()
    elif text.startswith("@"):
        raw = Path(text[1:]).read_bytes()
    else:
        raw = text.encode("utf-8", "surrogateescape")
    try:
        return parse_object(raw, what=f"value of {option}")
    except InvalidRequestError as error:
        raise click.UsageError(error.message.rstrip(".")) from None


def parse_range(
    ctx: click.Context, _: click.Parameter, text: str | None
) -> tuple[int | None, int | None] | None:
    """Return the bounds in ``START:END``, either of which may be left out."""
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise click.UsageError(f"A range is START:END, bytes from 0, not {text!a:.100}")
    first, last = match.groups()
    return int(first) if first else None, int(last) if last else None


def question(fields: Mapping[str, Json], where: JsonObject | None) -> dict[str, Any]:
    """Return the arguments of ``query`` that ask for equal *fields* and for *where*."""
    taken = [{name: {"eq": fields[name]}} for name in fields if name in _PARAMETERS]
    parts = [*taken, *([where] if where is not None else [])]
    match = {name: value for name, value in fields.items() if name not in _PARAMETERS}
    return {"where": {"all": parts} if parts else None, **match}
