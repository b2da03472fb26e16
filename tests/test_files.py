"""Files appear whole or not at all, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.files import write_all, write_atomically

unix = pytest.mark.skipif(os.name != "posix", reason="modes and pipes are those of Unix")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "folder" / "target.txt"
    target.parent.mkdir()
    target.write_bytes(b"old")
    return target


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def failing(error: BaseException) -> Iterator[bytes]:
    yield b"half of"
    raise error


@pytest.mark.parametrize("pieces", [[], [b""], [b"new"], [b"n", b"", b"ew"], [b"x" * 3_000_000]])
def test_writes_all_pieces(target: Path, pieces: list[bytes]) -> None:
    write_atomically(target, iter(pieces))
    assert target.read_bytes() == b"".join(pieces)
    assert names_beside(target) == ["target.txt"]


def test_makes_a_new_file(target: Path) -> None:
    new = target.with_name("new")
    write_atomically(str(new), [b"abc"])
    assert new.read_bytes() == b"abc"
    assert names_beside(target) == ["new", "target.txt"]


def test_a_path_without_a_folder(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(target.parent)
    write_atomically("target.txt", [b"new"])
    assert target.read_bytes() == b"new"
    assert names_beside(target) == ["target.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(target: Path) -> None:
    seen: list[Any] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"n", b"e", b"w"):
            yield piece
            seen.append((target.read_bytes(), [name[0] for name in names_beside(target)]))

    with target.open("rb") as reader:
        write_atomically(target, pieces())
        assert reader.read() == b"old"
    assert seen == [(b"old", [".", "t"])] * 3  # what is being written is hidden
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()], ids=repr
)
def test_a_failure_changes_nothing(target: Path, error: BaseException, exists: bool) -> None:
    path = target if exists else target.with_name("new")
    with pytest.raises(type(error)):
        write_atomically(path, failing(error))
    assert target.read_bytes() == b"old"
    assert names_beside(target) == ["target.txt"]


def test_report_is_told_and_can_end_it(target: Path) -> None:
    steps: list[int] = []
    write_atomically(target, [b"abc", b"", b"de"], report=steps.append)
    assert steps == [3, 3, 5]

    def stop(done: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, [b"abc"], report=stop)
    assert target.read_bytes() == b"abcde"
    assert names_beside(target) == ["target.txt"]


@pytest.mark.parametrize("call", ["write", "replace"])
def test_a_full_disk_changes_nothing(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_args: object, **_kwargs: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(target, [b"new"])
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == b"old"
    assert names_beside(target) == ["target.txt"]


def test_short_writes_are_carried_on(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    write_atomically(target, [b"abcde", b"", b"f"])
    assert target.read_bytes() == b"abcdef"


def test_write_all(target: Path) -> None:
    with target.open("wb") as stream:
        write_all(stream.fileno(), b"abc")
        write_all(stream.fileno(), b"")
    assert target.read_bytes() == b"abc"


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", [b"abc"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_target(target: Path) -> None:
    def pieces() -> Iterator[bytes]:
        raise AssertionError("nothing should be fetched for it")
        yield b""

    with pytest.raises(IsADirectoryError):
        write_atomically(target.parent, pieces())
    assert names_beside(target) == ["target.txt"]
    assert names_beside(target.parent) == ["folder"]


@pytest.mark.parametrize("name", ["n" * 255, "😀" * 63, ".hidden", "a b\n"])
@unix
def test_any_name_that_the_system_takes(target: Path, name: str) -> None:
    path = target.with_name(name)
    write_atomically(path, [b"abc"])
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755, 0o444])
@unix
def test_an_existing_file_passes_its_mode_on(target: Path, mode: int) -> None:
    target.chmod(mode)
    write_atomically(target, [b"new"])
    assert mode_of(target) == mode
    assert target.read_bytes() == b"new"


@unix
def test_what_nobody_may_read_is_readable_at_no_moment(target: Path) -> None:
    target.chmod(0o600)
    modes: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield b"secret"
        modes.extend(mode_of(path) for path in target.parent.iterdir())

    write_atomically(target, pieces())
    assert modes == [0o600, 0o600]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
@unix
def test_a_new_file_has_the_mode_of_new_files(target: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(target.with_name("new"), [b"abc"])
    finally:
        os.umask(before)
    assert mode_of(target.with_name("new")) == 0o666 & ~mask


def test_the_umask_of_other_threads_is_left_alone(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(_mask: int) -> int:
        pytest.fail("the umask belongs to the whole process")

    monkeypatch.setattr(os, "umask", umask)
    write_atomically(target, [b"new"])
    write_atomically(target.with_name("other"), [b"new"])


@unix
def test_a_pipe_stays_a_pipe(target: Path) -> None:
    # Renaming over it is what root would do to /dev/null.
    pipe = target.with_name("pipe")
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    steps: list[int] = []
    write_atomically(pipe, [b"abc", b"de"], report=steps.append)
    reader.join()
    assert got == [b"abcde"]
    assert steps == [3, 5]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names_beside(target) == ["pipe", "target.txt"]


@unix
def test_writers_at_the_same_time_do_not_meet(target: Path) -> None:
    contents = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    threads = [
        threading.Thread(target=write_atomically, args=(target, [part[:7], part[7:]]))
        for part in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert names_beside(target) == ["target.txt"]
