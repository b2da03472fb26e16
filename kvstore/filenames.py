r"""Spells a key as the path of its data file, readable where possible and reversible always.

The segments of a key before the last are directories, the last one is the file:

- The characters ``% < > : " \ | ? *``, control characters, line and paragraph separators, a dot
  or space at the beginning or end, the first character of a Windows device name and the tilde of
  a Windows short name (``longna~1.txt``) are escaped: the bytes of their UTF-8 as ``%XX``.
- File names hold a dot, directory names never do, so that the key ``a`` can live beside ``a/b``.
  A dot in a directory is ``%2E``; a file name that would have no dot gets the suffix ``.data``.
- The metadata of ``m31.fits`` is in its sidecar ``m31.fits.meta.json``. A last segment that looks
  like a sidecar, or as if the suffix had been added, has its last character escaped.
- ``%_`` is an empty segment. A segment too long for one name is spread over continuation
  directories, whose names end in ``%+``: ``aaa...%+/aaa....data``.

Form ``exact`` escapes nothing else. Form ``portable`` also escapes upper case and all that is not
ASCII, so that folders which fold case or Unicode forms keep different keys apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile, zip_longest
from typing import Literal, TypeAlias
from urllib.parse import unquote

from kvstore.errors import InvalidKeyError
from kvstore.keys import check_key

Form: TypeAlias = Literal["exact", "portable"]

#: Ends the name of a sidecar; before it comes the name of the data file.
SIDECAR_SUFFIX = ".meta.json"
#: Longest name that is given out, in bytes of UTF-8: with the suffix of a sidecar it has the 255
#: that all file systems allow.
MAX_NAME_BYTES = 255 - len(SIDECAR_SUFFIX)

_DATA_SUFFIX = ".data"
_EMPTY = "%_"
_CONTINUED = "%+"

_RESERVED: dict[Form, re.Pattern[str]] = {
    "exact": re.compile(r'[%<>:"\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029]+'),
    "portable": re.compile(r"[^a-z0-9\-_.~+=,@!()'&$;#\[\]{}^ ]+"),
}
_EDGES = re.compile(r"\A[. ]|[. ]\Z")
# In any case, because a folder that folds case would open "x.data", the file of the key "x", for
# the name "x.DATA".
_AMBIGUOUS = re.compile(r"\A[^.]*\.data\Z|\.meta\.json\Z", re.ASCII | re.IGNORECASE)
# Windows drops spaces before the first dot: "CON .txt" is the console, too.
_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9¹²³]|CONIN\$|CONOUT\$) *(?:\.|\Z)",
    re.ASCII | re.IGNORECASE,
)
# Windows gives a long name a second, short one (at most 8 characters, a dot and 3 more) under
# which it can be opened: "longna~1.txt" may be "longname.text", "kvstor~1" the folder ".kvstore".
_SHORT = re.compile(r"\A(?=[^.]{3,8}(?:\.[^.]{1,3})?\Z)([^.]+)~([0-9]+)(?=\.|\Z)")

# Most keys need no escape at all, and one match tells so: segments of plain characters that are
# not shaped like a device, dots in the last one only, no ambiguous end.
_NO_DEVICE = r"(?![CPANLcpanl][ORUPorup][NXLMTnxlmt][0-9]?(?![^./]))"
_NO_SUFFIX = r"(?<!\.[Dd][Aa][Tt][Aa])(?<!\.[Mm][Ee][Tt][Aa]\.[Jj][Ss][Oo][Nn])"


def _plain(letters: str) -> re.Pattern[str]:
    chars = letters + r"0-9_+=,@!()'&;#\[\]{}^\-"
    segment = rf"{_NO_DEVICE}[{chars}]+"
    return re.compile(rf"(?:{segment}/)*{segment}(?:\.[{chars}.]*[{chars}]{_NO_SUFFIX})?")


_PLAIN: dict[Form, re.Pattern[str]] = {"exact": _plain("A-Za-z"), "portable": _plain("a-z")}
_MAX_PLAIN = MAX_NAME_BYTES - len(_DATA_SUFFIX)


def encode(key: str, *, form: Form = "exact") -> tuple[str, ...]:
    """Return the names on the way to the data file of *key*: directories, then the file.

    *key* is a legal key (see :func:`kvstore.keys.check_key`). Different keys have different paths
    of at most 3,200 bytes, each name has at most :data:`MAX_NAME_BYTES`. No name is ``.``, ``..``
    or begins with a dot.

    Raises:
        ValueError: *form* is unknown, or *key* holds a lone surrogate.
    """
    if form not in _PLAIN:
        raise _unknown(form)
    if len(key) <= _MAX_PLAIN and _PLAIN[form].fullmatch(key):
        names = key.split("/")
        if "." not in key:
            names[-1] += _DATA_SUFFIX
        return tuple(names)
    *directories, last = key.split("/")
    names = []
    for segment in directories:
        names += _spread(segment, form, _directory_name)
    names += _spread(last, form, _file_name)
    return tuple(names)


def decode(parts: Sequence[str], *, form: Form | None = None) -> str:
    """Return the key whose data file is at the path of the names *parts*.

    Only what ``encode`` gives is accepted: in *form*, or in either form if that is None.

    Raises:
        ValueError: no key has this path; the message names the name that is to blame.
    """
    path = tuple(parts)
    if not path:
        raise ValueError("A path of no names is not that of a key.")
    texts = []
    for name in path[:-1]:
        text, continues = decode_directory(name, form=form)
        texts.append(text if continues else text + "/")
    key = "".join(texts) + decode_file(path[-1], form=form)
    try:
        check_key(key)
    except InvalidKeyError as error:
        raise ValueError(f"The path {_shown('/'.join(path))} is not of a key. {error}") from None
    spellings = [encode(key, form=each) for each in _forms(form)]
    if path not in spellings:
        # Two forms in one path agree with each form up to some name; the later one is to blame.
        name = path[max(_first_difference(path, spelling) for spelling in spellings)]
        raise ValueError(f"The name {_shown(name)} is not how the key {_shown(key)} is spelled.")
    return key


def decode_directory(name: str, *, form: Form | None = None) -> tuple[str, bool]:
    """Return the text that a directory stands for and whether it is a continuation directory.

    To list keys in order, sort the entries of a directory by their text: that of a file is
    ``decode_file(name)``, that of a directory is its own with ``/`` added. A continuation
    directory is no entry; its own entries, each with its text put in front, are entries of the
    directory that it is in.

    Each name is judged alone, in *form* or in either. Whether the path is that of a key (cut at
    the right places, not too long, without a segment ``.`` or ``..``) only ``decode`` tells.

    Raises:
        ValueError: no directory on the way to a key has this name.
    """
    if "." not in name and _is_plain(name, form):
        return name, False
    fragment = name.removesuffix(_CONTINUED)
    if fragment == name:
        text = "" if name == _EMPTY else _unescape(name, name)
        _check_name(name, text, form, _directory_name)
        return text, False
    text = _unescape(fragment, name)
    _check_name(name, text, form, _fragment_name)
    return text, True


def decode_file(name: str, *, form: Form | None = None) -> str:
    """Return the last segment, or its last fragment, that a data file called *name* stands for.

    Raises:
        ValueError: no data file has this name; it may be that of a sidecar.
    """
    stem = name.removesuffix(_DATA_SUFFIX)
    if "." in stem:
        stem = name
    if ("." in stem) == (stem is name) and _is_plain(stem, form):
        return stem
    text = "" if stem == _EMPTY else _unescape(stem, name)
    _check_name(name, text, form, _file_name)
    return text


def sidecar(name: str) -> str:
    """Return the name of the file with the metadata of the data file called *name*."""
    return name + SIDECAR_SUFFIX


def is_sidecar(name: str) -> bool:
    """Tell whether *name* is that of a sidecar; no data file has such a name."""
    return name.endswith(SIDECAR_SUFFIX) and name != SIDECAR_SUFFIX


def data_name(sidecar_name: str) -> str:
    """Return the name of the data file that a sidecar belongs to.

    Raises:
        ValueError: *sidecar_name* is not the name of a sidecar.
    """
    if not is_sidecar(sidecar_name):
        message = f"The name of a sidecar ends in {SIDECAR_SUFFIX!r}: {_shown(sidecar_name)}."
        raise ValueError(message)
    return sidecar_name.removesuffix(SIDECAR_SUFFIX)


def _spread(segment: str, form: Form, spell: Callable[[str, Form], str]) -> list[str]:
    """Spell a segment as one name, after as many continuation directories as it needs.

    Each of them takes as many characters as fit, but never the last of the segment. What is left
    is spelled like a segment of its own, so that a dot or a device name gets its escape there.
    """
    names = []
    while _size(name := spell(segment, form)) > MAX_NAME_BYTES:
        sizes = (_size(_undotted(char, form)) for char in segment[1:-1])
        ends = accumulate(sizes, initial=_size(_fragment_name(segment[0], form)))
        cut = sum(1 for _ in takewhile(MAX_NAME_BYTES.__ge__, ends))
        names.append(_fragment_name(segment[:cut], form))
        segment = segment[cut:]
    return [*names, name]


def _directory_name(segment: str, form: Form) -> str:
    if not segment:
        return _EMPTY
    return _without_aliases(_EDGES.sub(_escape, _undotted(segment, form)))


def _file_name(segment: str, form: Form) -> str:
    if not segment:
        return _EMPTY + _DATA_SUFFIX
    name = _EDGES.sub(_escape, _RESERVED[form].sub(_escape, segment))
    if "." not in name:
        name += _DATA_SUFFIX
    elif _AMBIGUOUS.search(name):
        name = name[:-1] + _percent(name[-1])
    return _without_aliases(name)


def _fragment_name(text: str, form: Form) -> str:
    name = _undotted(text, form)
    # The marker follows, so that a space is at the edge in front only.
    return (_percent(" ") + name[1:] if name.startswith(" ") else name) + _CONTINUED


def _undotted(segment: str, form: Form) -> str:
    return _RESERVED[form].sub(_escape, segment).replace(".", "%2E")


def _without_aliases(name: str) -> str:
    """Escape one character of a name under which Windows would open something else."""
    if _DEVICE.match(name):
        return _percent(name[0]) + name[1:]
    return _SHORT.sub(r"\1%7E\2", name) if "~" in name else name


def _escape(match: re.Match[str]) -> str:
    return _percent(match[0])


def _percent(text: str) -> str:
    return "%" + text.encode().hex("%").upper()


def _size(name: str) -> int:
    return len(name.encode())


def _is_plain(name: str, form: Form | None) -> bool:
    plain = _PLAIN[_forms(form)[0]]
    return len(name) <= _MAX_PLAIN and "/" not in name and plain.fullmatch(name) is not None


def _unescape(text: str, name: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"The name {_shown(name)} holds bytes that are not UTF-8.") from None


def _check_name(name: str, text: str, form: Form | None, spell: Callable[[str, Form], str]) -> None:
    try:
        size = _size(name)
    except UnicodeEncodeError:
        raise ValueError(f"The name {_shown(name)} holds bytes that are not UTF-8.") from None
    spelled = any(spell(text, each) == name for each in _forms(form))
    if not spelled or size > MAX_NAME_BYTES or name == _CONTINUED or "/" in text or "\0" in text:
        raise ValueError(f"No key has the name {_shown(name)} in its path.")


def _forms(form: Form | None) -> tuple[Form, ...]:
    if form is None:
        return ("exact", "portable")
    if form not in _PLAIN:
        raise _unknown(form)
    return (form,)


def _unknown(form: str) -> ValueError:
    return ValueError(f"A form is 'exact' or 'portable', not {form!r}.")


def _first_difference(path: Sequence[str], spelling: Sequence[str]) -> int:
    pairs = enumerate(zip_longest(path, spelling))
    return next(index for index, (one, other) in pairs if one != other)


def _shown(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
