from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import StorageError, StorageFullError, TooLargeError, UnavailableError
from kvstore.server import partial as partial_module
from kvstore.server.answers import Refusal
from kvstore.server.limits import Limits
from kvstore.server.partial import Plan
from kvstore.server.partials import Partials

PLAN = Plan("key", 100, "key a2V5", value='{"metadata":{}}', if_match="r", is_stand_in=True)
ROOT = Path(__file__).parents[2]


class Now:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def made(folder: Path | None, now: Now | None = None, **limits: Any) -> Partials:
    return Partials(folder, Limits(**limits), clock=now or Now())


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.endswith(".lock")}


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    one = made(tmp_path / "a" / "b")
    partial = one.create(PLAN)
    one.append(partial, b"hello", is_certain=True)
    one.keep(partial)
    one.close()
    one.close()
    other = made(tmp_path / "a" / "b")
    found = other.find(partial.name)
    assert (found.plan, found.offset, found.expires) == (PLAN, 5, partial.expires)
    other.append(found, b"world", is_certain=True)
    assert found.path.read_bytes() == b"helloworld"
    other.stored(found, {"etag": '"r"'})
    other.close()
    third = made(tmp_path / "a" / "b")
    stored = third.find(partial.name)
    assert (stored.told, stored.offset, stored.is_stored) == ({"etag": '"r"'}, 10, True)
    assert names(tmp_path / "a" / "b") == {f"{partial.name}.json"}
    third.remove(stored)
    third.close()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_is_not_on_the_disk_counts_for_nothing(tmp_path: Path) -> None:
    """After a power cut a file may be as long as it was, and hold zeros."""
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello", is_certain=True)
    one.keep(partial)
    one.append(partial, b"\0\0\0", is_certain=True)
    one.close()
    other = made(tmp_path)
    found = other.find(partial.name)
    assert found.offset == 5
    other.append(found, b"w", is_certain=True)
    assert found.path.read_bytes() == b"hellow\0\0"
    other.close()


def test_much_is_kept_without_being_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_module, "_STEP", 10)
    one = made(tmp_path)
    certain, doubtful = one.create(PLAN), one.create(PLAN)
    for _ in range(5):
        one.append(certain, b"xxxx", is_certain=True)
        one.append(doubtful, b"xxxx", is_certain=False)
    one.close()
    other = made(tmp_path)
    assert other.find(certain.name).offset == 12
    assert other.find(doubtful.name).offset == 0
    other.close()


@pytest.mark.parametrize(
    "state",
    [
        *(b"", b"{}", b"\0" * 50, b"[]", None),
        b'{"plan":{},"offset":0,"expires":1e9,"told":null}',
        b'{"plan":{"key":"a"},"offset":0,"expires":1e9,"told":null}',
    ],
)
def test_what_makes_no_sense_is_removed(tmp_path: Path, state: bytes | None) -> None:
    one = made(tmp_path)
    partial, good = one.create(PLAN), one.create(PLAN)
    one.append(good, b"x", is_certain=True)
    one.keep(good)
    one.close()
    file = Path(f"{partial.path}.json")
    if state is None:
        file.unlink()
    else:
        file.write_bytes(state)
    (tmp_path / ".0123456789abcdef.part").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    other = made(tmp_path)
    with pytest.raises(Refusal) as caught:
        other.find(partial.name)
    assert caught.value.status == 404
    assert other.find(good.name).offset == 1
    assert names(tmp_path) == {good.name, f"{good.name}.json", "notes.txt"}
    other.close()


def test_data_that_are_shorter_than_they_were_are_removed(tmp_path: Path) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello", is_certain=True)
    one.keep(partial)
    one.close()
    os.truncate(partial.path, 4)
    other = made(tmp_path)
    with pytest.raises(Refusal):
        other.find(partial.name)
    assert names(tmp_path) == set()
    other.close()


def test_what_a_link_points_to_is_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    one = made(tmp_path / "uploads")
    partial = one.create(PLAN)
    partial.path.unlink()
    partial.path.symlink_to(secret)
    with pytest.raises(StorageError):
        one.append(partial, b"x", is_certain=True)
    assert (partial.offset, secret.read_bytes()) == (0, b"secret")
    one.close()


def test_only_the_user_can_read_them(tmp_path: Path) -> None:
    one = made(tmp_path / "uploads")
    partial = one.create(PLAN)
    one.append(partial, b"x", is_certain=True)
    for file in (tmp_path / "uploads", partial.path):
        assert file.stat().st_mode & 0o77 == 0
    one.close()


def test_names_cannot_be_guessed(tmp_path: Path) -> None:
    one = made(tmp_path)
    found = {one.create(PLAN).name for _ in range(100)}
    assert len(found) == 100
    assert {len(name) for name in found} == {32}
    one.close()


# -- bounds --------------------------------------------------------------------------------


def test_the_number_of_open_ones_is_bounded(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, uploads=3, upload_time=50)
    first, *_ = [one.create(PLAN) for _ in range(3)]
    with pytest.raises(UnavailableError) as caught:
        one.create(PLAN)
    assert caught.value.retry_after is not None
    one.stored(first, {})
    one.create(PLAN)
    now.time += 50
    assert [one.create(PLAN) for _ in range(3)]
    assert len(one) == 3
    assert len(names(tmp_path)) == 6
    one.close()


def test_of_those_that_are_stored_the_newest_are_known(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, uploads=3)
    stored = []
    for _ in range(10):
        now.time += 1
        stored.append(one.create(PLAN))
        one.stored(stored[-1], {})
    one.create(PLAN)
    assert len(one) == 4
    assert one.find(stored[-3].name).is_stored
    with pytest.raises(Refusal):
        one.find(stored[-4].name)
    one.close()


def test_the_size_of_all_together_is_bounded(tmp_path: Path) -> None:
    one = made(tmp_path, upload_bytes=100)
    first, second = one.create(PLAN), one.create(PLAN)
    one.append(first, b"x" * 60, is_certain=True)
    one.append(second, b"x" * 40, is_certain=True)
    with pytest.raises(StorageFullError):
        one.append(second, b"x", is_certain=True)
    assert second.offset == 40
    one.remove(first)
    one.append(second, b"x" * 60, is_certain=True)
    with pytest.raises(TooLargeError, match="at most 100 bytes, not 101"):
        one.create(Plan("key", 101, ""))
    one.close()


def test_what_a_request_has_does_not_expire(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, upload_time=50)
    held, other = one.create(PLAN), one.create(PLAN)
    one.take(held)
    now.time += 60
    one.create(PLAN)
    assert one.find(held.name) is held
    with pytest.raises(Refusal):
        one.take(other)
    one.give_back(held)
    with pytest.raises(Refusal) as caught:
        one.find(held.name)
    assert caught.value.status == 410
    one.close()


# -- failures ------------------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello", is_certain=True)

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(partial_module, "write_all", full)
        with pytest.raises(StorageFullError):
            one.append(partial, b"XXXXX", is_certain=True)
        assert partial.offset == 5
    one.append(partial, b"w" * 95, is_certain=True)
    assert partial.whole().read_bytes() == b"hello" + b"w" * 95
    one.close()


def test_an_upload_that_cannot_be_begun_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path)
    one.create(PLAN)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(partial_module, "write_atomically", full)
    with pytest.raises(StorageFullError):
        one.create(PLAN)
    assert len(one) == 1
    assert len(names(tmp_path)) == 2
    one.close()


def test_what_is_stored_is_so_though_nobody_can_note_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(partial_module, "write_atomically", broken)
    one.stored(partial, {"etag": '"r"'})
    assert one.find(partial.name).told == {"etag": '"r"'}
    assert "cannot be noted" in caplog.text
    one.close()


# -- several servers -----------------------------------------------------------------------


def test_a_second_server_leaves_the_folder_to_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = made(tmp_path), made(tmp_path)
    partial = one.create(PLAN)
    mine = other.create(PLAN)
    assert mine.path.parent != tmp_path
    assert "Another server keeps its uploads" in caplog.text
    assert names(tmp_path) == {partial.name, f"{partial.name}.json"}
    other.close()
    assert not mine.path.parent.exists()
    one.close()
    third = made(tmp_path)
    assert third.find(partial.name).plan == PLAN
    third.close()


def test_a_folder_that_cannot_be_read_is_none_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path)

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(one, "_load", broken)
        with pytest.raises(StorageError):
            one.create(PLAN)
    assert list(tmp_path.iterdir()) == []
    assert one.create(PLAN).path.parent == tmp_path
    one.close()


KILLED = """
import os, signal
from pathlib import Path
from kvstore.server.limits import Limits
from kvstore.server.partial import Plan
from kvstore.server.partials import Partials

partials = Partials(Path({folder!r}), Limits())
partial = partials.create(Plan("key", 100, ""))
partials.append(partial, b"hello", is_certain=True)
partials.keep(partial)
partials.append(partial, b"world", is_certain=True)
print(partial.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_server_that_was_killed_had_is_found(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    one = Partials(tmp_path, Limits())
    assert one.find(done.stdout.strip()).offset == 5
    assert len([file for file in tmp_path.iterdir() if file.suffix == ".lock"]) == 1
    one.close()


def test_the_state_is_one_document(tmp_path: Path) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)
    document = json.loads(Path(f"{partial.path}.json").read_bytes())
    assert document.keys() == {"plan", "offset", "expires", "told"}
    one.close()
