"""Commands for the documents beside the data: ``meta`` and ``perms``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.arguments import Place, on_store, parse_document, parse_pairs
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column
from kvstore.errors import ConflictError
from kvstore.values import OWNED, Permissions, Value, permissions_document

# How often a change that reads first is tried again, where others write the key meanwhile.
_ATTEMPTS = 5

if_match_option = click.option(
    "--if-match",
    metavar="REVISION",
    help="Only if the key is at this revision; see `kvstore info`.",
)


@click.command()
@on_store("KEY [NAME=VALUE]...")
@click.option("--metadata", "document", metavar="JSON", help="An object with fields, or @FILE.")
@click.option("--replace", is_flag=True, help="Remove all fields that are not given.")
@click.option("--unset", multiple=True, metavar="NAME", help="Remove this field.")
@if_match_option
@output_options
@with_output
def meta(
    output: Output,
    /,
    place: Place,
    document: str | None,
    replace: bool,
    unset: Sequence[str],
    if_match: str | None,
) -> None:
    """Show the metadata of KEY, or change it.

    Fields that are not given stay as they are. A VALUE is JSON where it is JSON, else text:
    exposure=30, tags='["a","b"]', title='"30"'.
    """
    key, *pairs = place.words
    if replace and unset:
        raise click.UsageError("--replace leaves nothing for --unset")
    if not (pairs or unset or replace or document is not None):
        if if_match is not None:
            raise click.UsageError("--if-match is for changes")
        with place.open_existing() as store:
            output.document(store.get_metadata(key))
        return
    fields = {} if document is None else parse_document(document, "--metadata")
    fields.update(parse_pairs(pairs))
    with place.open_existing() as store:
        if not (unset or replace):
            revision = store.update_metadata(key, fields, if_match=if_match)
        else:

            def write(value: Value, at: str | None) -> str | None:
                old = {} if replace else value.metadata
                kept = {name: field for name, field in old.items() if name not in unset}
                return store.set_metadata(key, {**kept, **fields}, if_match=at)

            revision = _edit(store, key, if_match, write)
    output.result(
        f"{key}: metadata changed, revision {revision}", {"key": key, "revision": revision}
    )


@click.command()
@on_store("KEY")
@click.option("--grant", multiple=True, metavar="NAME=TAG", help="Give a permission to a tag.")
@click.option("--revoke", multiple=True, metavar="NAME=TAG", help="Take it away from the tag.")
@click.option(
    "--set", "document", metavar="JSON", help='Replace all: \'{"owned": ["me"]}\', or @FILE.'
)
@if_match_option
@output_options
@with_output
def perms(
    output: Output,
    /,
    place: Place,
    grant: Sequence[str],
    revoke: Sequence[str],
    document: str | None,
    if_match: str | None,
) -> None:
    """Show or change the permissions of KEY.

    A permission belongs to tags, which stand for users or groups. The tag "public" is everybody;
    "owned" holds all rights and always has a tag.
    """
    (key,) = place.words
    if document is not None and (grant or revoke):
        raise click.UsageError(
            "--set replaces all permissions; give no --grant or --revoke with it"
        )
    given, taken = _parse_tags(grant), _parse_tags(revoke)
    with place.open_existing() as store:
        if document is None and not grant and not revoke:
            if if_match is not None:
                raise click.UsageError("--if-match is for changes")
            _print_permissions(output, store.get_permissions(key))
            return
        if document is not None:
            replaced = parse_document(document, "--set")
            revision = store.set_permissions(key, replaced, if_match=if_match)
        elif taken:

            def write(value: Value, at: str | None) -> str | None:
                after = _changed(value.permissions, given, taken)
                return store.set_permissions(key, after, if_match=at)

            revision = _edit(store, key, if_match, write)
        else:
            revision = store.update_permissions(key, given, if_match=if_match)
    output.result(
        f"{key}: permissions changed, revision {revision}", {"key": key, "revision": revision}
    )


def _print_permissions(output: Output, permissions: Permissions) -> None:
    columns = [Column(name, ", ".join) for name in permissions]
    output.document(permissions_document(permissions), columns)


def _changed(old: Permissions, given: Permissions, taken: Permissions) -> Permissions:
    names = [*old, *(name for name in given if name not in old)]
    nobody: set[str] = set()
    left = {n: (old.get(n, nobody) | given.get(n, nobody)) - taken.get(n, nobody) for n in names}
    # A permission without tags says nothing; but `owned` must have one, and the store says so.
    return {name: tags for name, tags in left.items() if tags or name == OWNED}


def _parse_tags(words: Sequence[str]) -> Permissions:
    permissions: Permissions = {}
    for word in words:
        name, equals, tag = word.partition("=")
        if not (name and equals and tag):
            raise click.UsageError(f"Permissions are given as name=tag, not {word!a:.100}")
        permissions.setdefault(name, set()).add(tag)
    return permissions


def _edit(
    store: AuthorizingStore,
    key: str,
    if_match: str | None,
    write: Callable[[Value, str | None], str | None],
) -> str | None:
    """Read the key and let *write* change it at that revision; again if others come between."""
    left = _ATTEMPTS if if_match is None else 1
    while True:
        left -= 1
        with closing(store.get(key)) as value:
            try:
                return write(value, if_match or value.revision)
            except ConflictError:
                if not left:
                    raise
