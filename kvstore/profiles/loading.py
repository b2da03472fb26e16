"""Profiles by name, from files and from dicts."""

from __future__ import annotations

import functools
import os
from importlib import resources
from pathlib import Path
from typing import Any

from kvstore.documents import parse_object
from kvstore.errors import InvalidRequestError
from kvstore.profiles.profile import Profile

_SUFFIX = ".json"


def bundled_names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with the package."""
    found = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@functools.cache
def bundled(name: str) -> Profile:
    """Return the profile of that name which ships with the package.

    Raises:
        InvalidRequestError: there is none.
    """
    if name not in bundled_names():
        known = ", ".join(bundled_names())
        message = f"There is no profile {name!r:.100}; there are {known}"
        raise InvalidRequestError(f"{message}, or give the path of a .json file.")
    return Profile.of(parse_object((_folder() / f"{name}{_SUFFIX}").read_bytes(), what="profile"))


def load_profile(given: Any) -> Profile:
    """Return the profile that is meant.

    Args:
        given: a `Profile`; a dict as in a JSON document; the name of a bundled one; or the path of
            a JSON file, as a ``Path`` or as text that ends in ``.json`` or has a separator in it.

    Raises:
        InvalidRequestError: no such profile, or what the document breaks.
        OSError: the file cannot be read.
    """
    if isinstance(given, Profile):
        return given
    if isinstance(given, dict):
        return Profile.of(given)
    if isinstance(given, os.PathLike):
        return _read(Path(given))
    if not isinstance(given, str):
        message = "A profile is a name, the path of a JSON file, a dict or a Profile"
        raise InvalidRequestError(f"{message}, not {given!r:.100}.")
    if given.endswith(_SUFFIX) or "/" in given or os.sep in given:
        return _read(Path(given))
    return bundled(given)


def _read(path: Path) -> Profile:
    return Profile.of(parse_object(path.read_bytes(), what=f"profile in {str(path)!r:.200}"))


def _folder() -> Any:
    return resources.files("kvstore.profiles") / "bundled"
