"""Why a conversation broke: what lies below the errors of three libraries."""

from __future__ import annotations

from collections.abc import Iterator


def reason_of(error: BaseException) -> str:
    """Return what the innermost cause says: "Connection refused" rather than "Max retries"."""
    reasons = [str(cause) for cause in causes(error) if str(cause)]
    text = reasons[-1] if reasons else type(error).__name__
    text = text.rstrip(".")
    return text if len(text) <= 200 else f"{text[:197]}..."


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error* and what it was made from, outermost first."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = inner if inner is not None else error.__cause__
