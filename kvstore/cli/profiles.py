"""Commands about profiles: ``profile list``, ``show``, ``check`` and ``probe``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from kvstore.authorizing import AuthorizingStore
from kvstore.cli.failures import FAILED
from kvstore.cli.output import Output, output_options, with_output
from kvstore.cli.spelling import Column, json_text
from kvstore.cli.summaries import counted
from kvstore.errors import InvalidKeyError, StoreError, TransportError, UnsupportedOperationError
from kvstore.opening import open_store
from kvstore.profiles.loading import bundled, bundled_names, load_profile
from kvstore.profiles.profile import Profile
from kvstore.stores.dynamic_url import DynamicURLStore

#: Nobody has this key: what a server says of it shows what it says of missing ones.
_NO_KEY = "kvstore-probe/there-is-no-such-key"
#: Characters of what is told of a failure.
_NOTE = 200
_YES, _NO, _NONE = "yes", "no", "-"


@dataclass(slots=True)
class _Finding:
    """What came of asking a server as one profile says."""

    profile: str
    fits: bool = False
    #: ``yes``, ``no`` or ``-`` (the profile has no such operation).
    exists: str = _NONE
    list: str = _NONE
    record: str = _NONE
    note: str = ""


@click.group("profile")
@output_options
def profile_command() -> None:
    """Profiles: how to talk to servers of other protocols.

    A profile is a JSON document; kvstore.open(url, profile=NAME_OR_FILE) uses it.
    """


@profile_command.command("list")
@output_options
@with_output
def list_command(output: Output, /) -> None:
    """List the profiles that ship with kvstore."""
    rows = [_summary(bundled(name)) for name in bundled_names()]
    if output.as_json:
        output.documents(rows)
        return
    columns = [Column("profile"), Column("writes", _yes_or_no, _yes_or_no), Column("description")]
    output.table(columns, ([row["profile"], row["writes"], row["description"]] for row in rows))


@profile_command.command("show")
@click.argument("name")
@output_options
@with_output
def show_command(output: Output, /, name: str) -> None:
    """Print the document of a profile, to read it or to begin with one of your own.

    NAME is that of a profile of kvstore, or the path of a JSON file.
    """
    output.line(json_text(load_profile(name).document, indent=2))


@profile_command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
@with_output
def check_command(output: Output, /, file: Path) -> None:
    """Check the profile in FILE.

    What is wrong is told with its place in the document (a JSON pointer), and the exit code is 1.
    """
    summary = _summary(load_profile(file))
    operations = counted(len(summary["operations"]), "operation")
    output.result(f"The profile {summary['profile']!r} is valid: {operations}", summary)


@profile_command.command("probe")
@click.argument("url")
@click.option(
    "--profile", "names", multiple=True, metavar="NAME", help="Try this one only (name or file)."
)
@output_options
@with_output
def probe_command(output: Output, /, url: str, names: tuple[str, ...]) -> int:
    """Ask the server at URL a few questions, and tell which profile fits and what works.

    Nothing is changed on the server. The exit code is 1 if no profile fits.
    """
    findings = [_asked(url, load_profile(name)) for name in names or bundled_names()]
    if output.as_json:
        output.documents(asdict(finding) for finding in findings)
    else:
        columns = [
            Column("profile"),
            Column("fits", _yes_or_no, _yes_or_no),
            *(Column(name) for name in ("exists", "list", "record", "note")),
        ]
        output.table(columns, (list(asdict(finding).values()) for finding in findings))
    return 0 if any(finding.fits for finding in findings) else FAILED


def _asked(url: str, profile: Profile) -> _Finding:
    finding = _Finding(profile.name)
    try:
        with _opened(url, profile) as store:
            finding.fits = True
            _ask(store, profile, finding)
    except TransportError as error:
        if isinstance(error.__cause__, OSError):
            raise  # nobody is there, and no other profile would find anybody
        finding.note = _short(error)
    except StoreError as error:
        finding.note = _short(error)
    return finding


def _opened(url: str, profile: Profile) -> AuthorizingStore:
    if profile == bundled("kvstore"):
        return open_store(url)  # by the server's own description
    store = DynamicURLStore(url, profile=profile)
    store.connect()
    try:
        if profile.dialect == "kvstore":
            store.exists(_NO_KEY)
        else:
            store.probe()
    except BaseException:
        store.disconnect()
        raise
    return store


def _ask(store: AuthorizingStore, profile: Profile, finding: _Finding) -> None:
    missing = profile.keys.example or _NO_KEY
    keys: list[str] = []
    finding.exists = _works(lambda: store.exists(missing), finding)
    finding.list = _works(lambda: keys.extend(store.query_keys(limit=1)), finding)
    if keys:
        finding.record = _works(lambda: store.record(keys[0]), finding)


def _works(question: Callable[[], Any], finding: _Finding) -> str:
    try:
        question()
    except (UnsupportedOperationError, InvalidKeyError):
        return _NONE
    except StoreError as error:
        finding.note = _short(error)
        return _NO
    return _YES


def _short(error: StoreError) -> str:
    text = error.message  # of which some servers send a page
    return text if len(text) <= _NOTE else f"{text[: _NOTE - 1]}…"


def _summary(profile: Profile) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "writes": profile.dialect == "kvstore" or not profile.is_readonly,
        "operations": sorted(profile.operations),
        "description": profile.description,
    }


def _yes_or_no(value: Any) -> str:
    return _YES if value else _NO
