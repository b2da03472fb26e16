"""What a key is: one rule for every store and for both ends of the wire."""

from __future__ import annotations

import re

from kvstore.errors import InvalidKeyError

#: Longest key, in bytes of UTF-8 (the limit of Amazon S3, so that keys can move there).
MAX_KEY_BYTES = 1024

# Keys of these characters alone need no further look but at their length and dot segments.
_PLAIN = re.compile(r"[A-Za-z0-9_\-./ ]{1,1024}", re.ASCII)


def check_key(key: object) -> str:
    """Return *key* as a plain ``str`` if it is a legal key.

    A key is text of 1 to 1,024 bytes of UTF-8. It is case-sensitive and opaque: two keys are the
    same only if all their characters are, whatever their Unicode form, and empty segments
    (``a//b``) count. A segment ``.`` or ``..`` is refused because every URL library would remove
    it on the way and so reach another key (RFC 3986 section 5.2.4).

    Raises:
        InvalidKeyError: *key* is no ``str``, is empty or too long, holds NUL or a lone surrogate,
            or has a segment ``.`` or ``..``.
    """
    if not isinstance(key, str):
        raise InvalidKeyError(f"A key is a str, not {type(key).__name__}: {_shown(key)}.")
    if not _PLAIN.fullmatch(key):
        _check_text(key)
    if "." in key and not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidKeyError(f"A key has no segment '.' or '..': {_shown(key)}.", key=key)
    # An enum with text as its value is a str that formats, and so goes into URLs, as its name.
    return key if type(key) is str else str.__str__(key)


def _check_text(key: str) -> None:
    if not key:
        raise InvalidKeyError("A key has at least one character; the empty text is none.", key=key)
    if "\0" in key:
        raise InvalidKeyError(f"A key holds no NUL character: {_shown(key)}.", key=key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        message = f"A key holds no lone surrogate: {_shown(key)}."
        raise InvalidKeyError(message, key=key) from None
    if size > MAX_KEY_BYTES:
        message = f"A key has at most {MAX_KEY_BYTES} bytes of UTF-8, not {size}: {_shown(key)}."
        raise InvalidKeyError(message, key=key)


def _shown(key: object) -> str:
    text = ascii(key)
    return text if len(text) <= 100 else f"{text[:97]}..."
