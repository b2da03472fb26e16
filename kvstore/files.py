"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# The kernel applies the umask; Python could read it only by changing it for all threads.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write_atomically(
    path: str | os.PathLike[str],
    pieces: Iterable[bytes],
    *,
    report: Callable[[int], object] | None = None,
) -> None:
    """Write *pieces* to *path* by way of a hidden file beside it that is renamed at the end.

    When anything fails, Ctrl-C included, *path* is as it was and nothing is left behind. An
    existing file passes its mode on; a new one gets that of new files. A device or a pipe, such
    as ``/dev/stdout``, is written to as it is. *report* is called with the bytes written so far.

    Raises:
        OSError: the folder is missing, full or not to be written.
    """
    target = Path(path)
    mode = mode_of(target)
    if mode is not None and not stat.S_ISREG(mode):
        # Root could rename over /dev/null; a folder is refused by open().
        with target.open("wb", buffering=0) as stream:
            _write_pieces(stream.fileno(), pieces, report)
        return
    with replacing(target, mode) as part:
        descriptor = os.open(part, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        try:
            _write_pieces(descriptor, pieces, report)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing(target: Path, mode: int | None = None) -> Iterator[Path]:
    """Give the path of an empty hidden file that becomes *target* at the end of a ``with`` block.

    When anything fails it is removed, and *target* is as it was. *mode* is that of the file that is
    replaced, if there is one.

    Raises:
        OSError: the folder is missing or not to be written.
    """
    part = target.parent / f".{secrets.token_hex(8)}.part"
    allowed = 0o666 if mode is None else stat.S_IMODE(mode)
    # Its owner can write it, whatever the mode of the one that it replaces.
    os.close(os.open(part, _CREATE, (allowed | stat.S_IWUSR) & 0o777))
    try:
        yield part
        if mode is not None:
            part.chmod(allowed)
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def mode_of(target: Path) -> int | None:
    """Return type and mode of a file, None if there is none."""
    try:
        return target.stat().st_mode
    except OSError:
        return None


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*; ``os.write`` may stop short (a signal, 2 GiB at a time)."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_pieces(
    descriptor: int, pieces: Iterable[bytes], report: Callable[[int], object] | None
) -> None:
    done = 0
    for piece in pieces:
        write_all(descriptor, piece)
        done += len(piece)
        if report is not None:
            report(done)
