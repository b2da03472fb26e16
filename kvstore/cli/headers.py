"""What files say of themselves: FITS headers and EXIF, where ``kvstore[readers]`` is installed.

All that imports astropy and Pillow is in here, and only when such a file is met.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

from kvstore.documents import Json, JsonObject, check_metadata

# Cards of prose, of which a header has many; the file has them still.
_PROSE = frozenset({"", "COMMENT", "HISTORY"})
# They say of a primary header without data that there is none.
_SHAPE = ("BITPIX", "NAXIS")
# Where other parts of EXIF begin in the file.
_POINTERS = frozenset({"ExifOffset", "GPSInfo", "InteroperabilityIFD"})
# Longer arrays are of the kind of StripOffsets and ColorMap.
_MANY = 16


class Headers:
    """Reads headers as metadata: plain JSON, each field under the name that it has in the file."""

    def __init__(self) -> None:
        #: Whether a file was met whose reader is not installed.
        self.missing = False
        #: Sentences on headers that could not be read, whatever is wrong with them.
        self.broken: list[str] = []

    def read(self, path: str) -> JsonObject:
        """Return what the header of the file says; nothing where it has none, or is broken."""
        name = path.lower()
        for suffixes, reader in _READERS.items():
            if name.endswith(suffixes):
                return self._read(reader, path)
        return {}

    def _read(self, reader: Callable[[str], JsonObject], path: str) -> JsonObject:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on what is odd in files, in many lines
                return check_metadata(reader(path))
        except ModuleNotFoundError:
            self.missing = True
        except Exception as error:  # noqa: BLE001 - broken files break readers in any way
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self.broken.append(f"{path!a:.300}: {reason:.200}")
        return {}


def _read_fits(path: str) -> JsonObject:
    """Return the primary header; where it has no data, with what the first extension adds."""
    from astropy.io import fits

    with fits.open(path, mode="readonly", memmap=False, lazy_load_hdus=True) as units:
        fields = _cards(units[0].header, fits.VerifyError)
        if fields.get("NAXIS"):
            return fields
        try:
            extension = units[1].header
        except IndexError:
            return fields
        own = {name: value for name, value in fields.items() if name not in _SHAPE}
        return {**_cards(extension, fits.VerifyError), **own}


def _cards(header: Any, malformed: type[Exception]) -> JsonObject:
    fields: JsonObject = {}
    for card in header.cards:
        try:
            name, value = card.keyword, _plain(card.value)
        except (ValueError, malformed):
            continue
        if value is not None and name not in _PROSE:
            fields.setdefault(name, value)
    return fields


def _read_exif(path: str) -> JsonObject:
    from PIL import ExifTags, Image

    with Image.open(path) as image:
        exif = image.getexif()
        parts = (
            (exif, ExifTags.TAGS),
            (exif.get_ifd(ExifTags.IFD.Exif), ExifTags.TAGS),
            (exif.get_ifd(ExifTags.IFD.GPSInfo), ExifTags.GPSTAGS),
        )
    fields: JsonObject = {}
    for part, names in parts:
        for number, value in part.items():
            name, plain = names.get(number), _plain(value)
            if name is not None and name not in _POINTERS and plain is not None:
                fields.setdefault(name, plain)
    return fields


def _plain(value: object) -> Json:
    """Return *value* as JSON, None for what is none: bytes, NaN, a card without a value."""
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.rstrip("\0 ")
    if isinstance(value, Real):  # the rationals of EXIF, too
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (list, tuple)) and len(value) <= _MANY:
        items = [_plain(item) for item in value]
        return None if None in items else items
    return None


_READERS: dict[tuple[str, ...], Callable[[str], JsonObject]] = {
    (".fits", ".fit", ".fits.gz"): _read_fits,
    (".jpg", ".jpeg", ".tif", ".tiff", ".png", ".webp"): _read_exif,
}
