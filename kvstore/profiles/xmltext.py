"""Texts on their way into XML, and what XML cannot hold."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

#: What XML 1.0 has no way to say (section 2.2).
UNSAYABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What stands for itself, between tags and in quotes; nearly all that there is.
_PLAIN = re.compile(r"[ !#-%'-;=?-~]*")
_ENTITIES = {'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}


def can_say(text: str) -> bool:
    """Tell whether XML can hold a text so that the same is read again."""
    return UNSAYABLE.search(text) is None


def text_of(text: str) -> str:
    """Return a text as it stands between tags; what XML cannot say is replaced."""
    if _PLAIN.fullmatch(text):
        return text
    return escape(UNSAYABLE.sub("\ufffd", text), {"\r": "&#13;"})


def attribute(text: str) -> str:
    """Return a text as it stands in double quotes; what XML cannot say is replaced."""
    if _PLAIN.fullmatch(text):
        return text
    return escape(UNSAYABLE.sub("\ufffd", text), _ENTITIES)
