"""What the generator of requests cannot know: bodies of lines, and names of keys that are there.

Loaded by the command ``schemathesis``, in a process of its own.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

#: Keys that the store has, and one that it has not.
KEYS = ("a", "sky/m31.fits", "a b/ü.txt", "new")

_CONDITIONS = frozenset(
    {
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "if-range",
        "content-digest",
        "repr-digest",
    }
)
_ALONE = (
    ("$count", "$delimiter", "$after"),
    ("$count", "$order"),
    ("$limit", "$after", "$delimiter"),
)

_keys = st.sampled_from(KEYS)
_metadata = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5))
_texts = st.none() | st.text(max_size=8)
_operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["set", "set_metadata", "update_metadata", "delete"]), "key": _keys},
    optional={"data": st.just("aGVsbG8="), "metadata": _metadata, "if_match": _texts},
)
_claims = st.fixed_dictionaries(
    {"key": _keys}, optional={"metadata": _metadata, "base": _texts, "mimetype": _texts}
)
_heads = st.fixed_dictionaries({}, optional={"metadata": _metadata, "mimetype": _texts})


def _line(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"


_lines = st.lists((_operations | _claims).map(_line), max_size=5).map(b"".join)
schemathesis.openapi.media_type("application/x-ndjson", _lines)
schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=50))
schemathesis.openapi.media_type(
    "application/vnd.kvstore.value",
    st.tuples(_heads.map(_line) | st.binary(max_size=50), st.binary(max_size=50)).map(b"".join),
)


_numbers = itertools.count()


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Let some of the requests get further than to their first fault."""
    number = next(_numbers)
    if "key" in (case.path_parameters or {}) and number % 2:
        case.path_parameters["key"] = KEYS[number // 2 % len(KEYS)]
        if case.method == "DELETE":
            case.path_parameters["key"] = "new"
    if number % 3 and case.headers:
        for name in [name for name in case.headers if name.lower() in _CONDITIONS]:
            del case.headers[name]
    if case.path in ("/query", "/changes") and number % 2:
        case.headers["Accept"] = "application/x-ndjson"
    if case.path == "/query" and number % 3 and case.query:
        # Some do not go together, and the generator likes to give all.
        for name in _ALONE[number // 3 % len(_ALONE)]:
            case.query.pop(name, None)
