"""How a token is spelled: ``kvs_<id>_<secret><checksum>``, all letters and digits.

The prefix and the checksum are for those who look for secrets in places where none should be: a
text of that form whose checksum is right is a token of ours, whoever's it is. There is no ``-`` in
it, so that a double click takes all of it.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

_PREFIX = "kvs"
_LETTERS = string.digits + string.ascii_letters
_ID = 12
#: 62**43 is more than 2**256.
_SECRET = 43
#: 62**6 is more than 2**32.
_CHECKSUM = 6
_ID_AT = slice(len(_PREFIX) + 1, len(_PREFIX) + 1 + _ID)
_TOKEN = re.compile(rf"{_PREFIX}_([0-9A-Za-z]{{{_ID}}})_([0-9A-Za-z]{{{_SECRET + _CHECKSUM}}})")


def new_id() -> str:
    """Return a name for a token; it is no secret."""
    return _random(_ID)


def new_text(identifier: str) -> str:
    """Return a new token of that name, with 256 bits that nobody guesses."""
    text = f"{_PREFIX}_{identifier}_{_random(_SECRET)}"
    return text + _checksum(text)


def id_in(text: str) -> str | None:
    """Return the name that is in a token, None for what is spelled otherwise."""
    found = _TOKEN.fullmatch(text)
    if found is None or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return found[1]


def claimed_id(text: str) -> str:
    """Return what stands where a token has its name. Cheap; whoever looks it up checks the rest."""
    return text[_ID_AT]


def is_ours(text: str) -> bool:
    """Whether it is meant as a token of this kind, however well it is spelled."""
    return text.startswith(f"{_PREFIX}_")


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), []
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_LETTERS))
        digits.append(_LETTERS[digit])
    return "".join(reversed(digits))
