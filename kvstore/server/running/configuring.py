"""Settings from a file, the environment and the command line, each with the place it came from."""

from __future__ import annotations

import dataclasses
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kvstore.errors import InvalidRequestError
from kvstore.server.running.settings import Settings

#: Begins the names of what the environment says.
PREFIX = "KVSTORE_SERVE_"

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Given:
    """The value of one setting, as it was found, and where: ``serve.toml:tls.cert``."""

    value: Any
    place: str


def settings_of(layers: Iterable[Mapping[str, Given]]) -> Settings:
    """Return the settings that layers of values by their names give, of which the last wins.

    Raises:
        InvalidRequestError: a name that means nothing, a value of a wrong type or one that cannot
            be; or half a group, such as a certificate without its key.
    """
    merged = {name: given for layer in layers for name, given in layer.items()}
    for name, given in merged.items():
        if name not in NAMES:
            raise InvalidRequestError(f"{given.place}: there is no such setting.")
    values = {name: _converted(NAMES[name], given) for name, given in merged.items()}
    settings: Settings = _built(Settings, "", values, merged)
    return settings


def from_file(path: Path) -> dict[str, Given]:
    """Return what a file of TOML says.

    Raises:
        InvalidRequestError: it is no TOML.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            document = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"{path}: {error}.") from None
    return {name: Given(value, f"{path}:{name}") for name, value in _flat(document, "")}


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return what the environment says: ``KVSTORE_SERVE_TLS_CERT`` is the setting ``tls.cert``.

    Raises:
        InvalidRequestError: a name with that beginning that means nothing.
    """
    known = {PREFIX + name.replace(".", "_").upper(): name for name in NAMES}
    found = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            if variable not in known:
                raise InvalidRequestError(f"{variable}: there is no such setting.")
            found[known[variable]] = Given(text, variable)
    return found


def effective(settings: Settings) -> dict[str, Any]:
    """Return the settings by their names, as JSON has them. There are no secrets in them."""
    found: dict[str, Any] = {}
    for name in NAMES:
        group, _, member = name.rpartition(".")
        value: Any = getattr(settings, group or member)
        if group and value is None:
            found[group] = None
            continue
        value = getattr(value, member) if group else value
        if isinstance(value, Path):
            value = str(value)
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _names(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for each in dataclasses.fields(kind):
        hint, group = hints[each.name], _group(hints[each.name])
        if group is None:
            yield prefix + each.name, hint
        else:
            yield from _names(group, f"{prefix}{each.name}.")


def _group(hint: Any) -> type | None:
    """The dataclass that a setting is made of, None for one that is a value."""
    return next((kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)), None)  # type: ignore[return-value] # of a class


#: The names of all settings, and their types.
NAMES: Mapping[str, Any] = dict(_names(Settings, ""))


def _flat(document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _built(kind: type, prefix: str, values: Mapping[str, Any], merged: Mapping[str, Given]) -> Any:
    hints, arguments = get_type_hints(kind), {}
    for each in dataclasses.fields(kind):
        name, group = prefix + each.name, _group(hints[each.name])
        if group is None and name in values:
            arguments[each.name] = values[name]
        elif group is not None and any(other.startswith(f"{name}.") for other in values):
            arguments[each.name] = _built(group, f"{name}.", values, merged)
    places = [merged[name].place for name in merged if prefix and name.startswith(prefix)]
    for each in dataclasses.fields(kind):
        is_needed = each.default is each.default_factory is dataclasses.MISSING
        if is_needed and each.name not in arguments:
            raise InvalidRequestError(f"{places[0]}: this needs {prefix}{each.name}, too.")
    try:
        return kind(**arguments)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{', '.join(places):.200}: {error.message}") from None


def _converted(hint: Any, given: Given) -> Any:
    try:
        return _value(hint, given.value)
    except (ValueError, TypeError):
        shown = f"{given.value!r:.100}"
        raise InvalidRequestError(f"{given.place}: it is {_said(hint)}, not {shown}.") from None


def _value(hint: Any, value: Any) -> Any:
    """Return a value of that type; text is read as one."""
    if get_origin(hint) in (Union, types.UnionType):
        return _value(get_args(hint)[0], value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(value)
        return value
    if get_origin(hint) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(_text(item).strip() for item in _of(items, list, tuple))
    if hint is bool and isinstance(value, str) and value.lower() in (*_YES, *_NO):
        return value.lower() in _YES
    if hint in (int, float) and isinstance(value, str):
        return hint(value)
    if hint is Path:
        return Path(_text(value)).expanduser()
    if hint is float:
        return float(_of(value, int, float))
    return _text(value) if hint is str else _of(value, hint)


def _of(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:  # True is an int, too
        raise TypeError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value):
        raise TypeError(value)
    return str(value)


def _said(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return _said(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list of texts"
    kinds = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return kinds.get(hint, "a text")
