"""Lab object identifiers: which text is one that the datasafe keeps data under.

The grammar is that of the checkers in labinform-datasafe 0.1.0b1, with nothing behind it, digits
that are ASCII, and dates that are in the calendar.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from urllib.parse import unquote

from kvstore.server.answers import Refusal

#: No number is longer; those of 18 digits fit into 64 bits.
_DIGITS = 18
_NUMBER = rf"0|[1-9][0-9]{{0,{_DIGITS - 1}}}"
_ISSUER = rf"42\.[0-9]{{1,{_DIGITS}}}"
_OBJECT = rf"(?:ba|sa)/[0-9]{{1,{_DIGITS}}}|(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})"
_EXPERIMENT = re.compile(
    rf"(?P<family>{_ISSUER}/ds/exp/(?:{_OBJECT})/(?:cwepr|trepr))(?:/(?P<number>{_NUMBER})?)?"
)
_CALCULATION = re.compile(rf"(?P<family>{_ISSUER}/ds/calc/(?:geo|result))/(?P<number>{_NUMBER})")
_CALCULATIONS = re.compile(rf"{_ISSUER}/ds/calc/")

_INVALID = "String is not a valid LOI."
_NO_EXPERIMENT = "Loi ist not a valid experiment LOI."


@dataclass(frozen=True, slots=True)
class Loi:
    """The identifier of a dataset, or of those of which it will be one."""

    #: All but the number: the issuer, the object and the method.
    family: str
    #: None where the server is to give it.
    number: int | None = None

    def __str__(self) -> str:
        return self.family if self.number is None else f"{self.family}/{self.number}"


def parse_loi(path: str) -> Loi:
    """Return the identifier of a dataset.

    Args:
        path: as it stands in a URL.

    Raises:
        Refusal: it is none (404), in words that clients look for.
    """
    text = unquote(path, errors="replace")
    match = _EXPERIMENT.fullmatch(text) or _CALCULATION.fullmatch(text)
    if match is None or match["number"] is None or not _is_real(match):
        raise Refusal(404, _INVALID)
    return Loi(match["family"], int(match["number"]))


def parse_family(path: str) -> Loi:
    """Return the identifier of an experiment that is to get the next number.

    A number that is given all the same is not taken into account, as the client of the original
    may send one.

    Raises:
        Refusal: it is none (404).
    """
    text = unquote(path, errors="replace")
    match = _EXPERIMENT.fullmatch(text)
    if match is not None and _is_real(match):
        return Loi(match["family"])
    raise Refusal(404, _NO_EXPERIMENT if _CALCULATIONS.match(text) else _INVALID)


def number_in(family: str, key: str) -> int | None:
    """Return the number of the dataset that a key belongs to; None where it is in none."""
    number = key.removeprefix(f"{family}/").partition("/")[0]
    return int(number) if re.fullmatch(_NUMBER, number) else None


def _is_real(match: re.Match[str]) -> bool:
    date = match.groupdict().get("date")
    try:
        return date is None or bool(datetime.date.fromisoformat(date))
    except ValueError:
        return False
