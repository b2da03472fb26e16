"""What becomes of errors: a sentence for people, and an exit code for programs."""

from __future__ import annotations

import signal

from kvstore.errors import ConflictError, KeyNotFoundError, StoreError

FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
INTERRUPTED = 128 + signal.SIGINT
#: As the shell tells it of other programs whose reader went away.
PIPE_CLOSED = 128 + 13


def sentence_of(error: StoreError | OSError) -> str:
    """Return what is told of an error."""
    notes = getattr(error, "__notes__", ())
    if isinstance(error, StoreError):
        text = error.message
    elif error.strerror is not None:
        where = "" if error.filename is None else f": {error.filename!r:.200}"
        text = f"{error.strerror}{where}."
    else:
        text = f"{str(error) or type(error).__name__}."
    return " ".join([text, *notes])


def code_of(error: StoreError | OSError) -> int:
    """Return the exit code of a command that an error ended."""
    if isinstance(error, KeyNotFoundError):
        return NOT_FOUND
    return CONFLICT if isinstance(error, ConflictError) else FAILED
