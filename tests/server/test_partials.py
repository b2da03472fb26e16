from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import StorageError, StorageFullError, TooLargeError, UnavailableError
from kvstore.server.answers import Refusal
from kvstore.server.limits import Limits
from kvstore.server.resumable import partial as partial_module
from kvstore.server.resumable.partial import Partial, Plan
from kvstore.server.resumable.partials import Partials

PLAN = Plan("key", 100, "key a2V5", value='{"metadata":{}}', if_match="r", is_stand_in=True)
ROOT = Path(__file__).parents[2]


class Now:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def made(folder: Path | None, now: Now | None = None, **limits: Any) -> Partials:
    return Partials(folder, Limits(**limits), clock=now or Now())


def begun(one: Partials, data: bytes = b"") -> Partial:
    """An upload that was begun, and that no request has."""
    partial = one.create(PLAN)
    if data:
        one.append(partial, data)
        one.keep(partial)
    one.give_back(partial)
    return partial


def taken(one: Partials, name: str) -> Partial:
    partial = one.take(name)
    assert partial is not None
    return partial


def status_of(one: Partials, name: str) -> int:
    with pytest.raises(Refusal) as caught:
        one.find(name)
    return caught.value.status


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.endswith(".lock")}


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    one = made(folder)
    partial = begun(one, b"hello")
    one.close()
    one.close()
    other = made(folder)
    found = taken(other, partial.name)
    assert (found.plan, found.offset, found.expires) == (PLAN, 5, partial.expires)
    other.append(found, b"world")
    assert found.path.read_bytes() == b"helloworld"
    other.keep(found)
    other.stored(found, {"etag": '"r"'})
    other.give_back(found)
    other.close()
    third = made(folder)
    stored = taken(third, partial.name)
    assert (stored.told, stored.offset, stored.is_stored) == ({"etag": '"r"'}, 10, True)
    assert names(folder) == {f"{partial.name}.json"}
    third.remove(stored)
    third.give_back(stored)
    third.close()
    assert list(folder.iterdir()) == []


def test_what_is_not_on_the_disk_counts_for_nothing(tmp_path: Path) -> None:
    """After a power cut a file may be as long as it was, and hold zeros."""
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello")
    one.keep(partial)
    one.append(partial, b"\0\0\0")
    one.give_back(partial)
    other = made(tmp_path)
    found = taken(other, partial.name)
    assert found.offset == 5
    other.append(found, b"w")
    assert found.path.read_bytes() == b"hellow\0\0"


def test_much_is_kept_without_being_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_module, "_STEP", 10)
    one = made(tmp_path)
    certain, doubtful = one.create(PLAN), one.create(PLAN)
    doubtful.pin()
    for _ in range(5):
        one.append(certain, b"xxxx")
        one.append(doubtful, b"xxxx")
    other = made(tmp_path)
    assert other.find(certain.name)[0].offset == 12
    assert other.find(doubtful.name)[0].offset == 0


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
    partial, good = begun(one), begun(one, b"x")
    file = Path(f"{partial.path}.json")
    if state is None:
        file.unlink()
    else:
        file.write_bytes(state)
    part, new = tmp_path / ".0123456789abcdef.part", tmp_path / ".fedcba9876543210.part"
    part.write_bytes(b"x")
    os.utime(part, (1, 1))
    new.write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    other = made(tmp_path)
    assert status_of(other, partial.name) == 404
    added = begun(other)
    assert other.find(good.name)[0].offset == 1
    left = {name.partition(".json")[0] for name in names(tmp_path)}
    assert left == {good.name, added.name, "notes.txt", new.name}


def test_data_that_are_shorter_than_they_were_are_removed(tmp_path: Path) -> None:
    one = made(tmp_path)
    partial = begun(one, b"hello")
    os.truncate(partial.path, 4)
    assert status_of(made(tmp_path), partial.name) == 404
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_now_is_not_taken_for_nonsense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path)
    partial = begun(one, b"hello")

    def broken(*_: Any) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(partial_module, "read_file", broken)
        with pytest.raises(StorageError):
            one.find(partial.name)
        with pytest.raises(StorageError):
            one.take(partial.name)
    assert taken(one, partial.name).offset == 5


def test_what_a_link_points_to_is_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    one = made(tmp_path / "uploads")
    partial = one.create(PLAN)
    partial.path.unlink()
    partial.path.symlink_to(secret)
    with pytest.raises(StorageError):
        one.append(partial, b"x")
    assert (partial.offset, secret.read_bytes()) == (0, b"secret")


def test_only_the_user_can_read_them(tmp_path: Path) -> None:
    partial = begun(made(tmp_path / "uploads"), b"x")
    for file in (tmp_path / "uploads", partial.path):
        assert file.stat().st_mode & 0o77 == 0


def test_names_cannot_be_guessed_nor_lead_elsewhere(tmp_path: Path) -> None:
    one = made(tmp_path / "uploads")
    found = {begun(one).name for _ in range(100)}
    assert {len(name) for name in found} == {32}
    assert len(found) == 100
    (tmp_path / "secret.json").write_bytes(b"{}")
    for name in ("../secret", "..", "", "x" * 32, "/etc/passwd", "%2e%2e/secret"):
        assert status_of(one, name) == 404
        with pytest.raises(Refusal):
            one.take(name)
    assert {file.name for file in tmp_path.iterdir()} == {"secret.json", "uploads"}


# -- the digest ----------------------------------------------------------------------------


def test_the_digest_is_that_of_the_bytes_whoever_took_them_in(tmp_path: Path) -> None:
    data = bytes(range(100))
    expected = hashlib.sha256(data).digest()
    one, other = made(tmp_path), made(tmp_path)
    partial = one.create(PLAN)
    for server, start in ((one, 0), (one, 20), (other, 40), (one, 60), (one, 80)):
        partial = partial if start == 0 else taken(server, partial.name)
        server.append(partial, data[start : start + 20])
        server.keep(partial)
        if start < 80:
            server.give_back(partial)
    assert partial.whole() == (partial.path, expected)


def test_the_digest_forgets_what_proved_to_be_damaged(tmp_path: Path) -> None:
    data = bytes(range(100))
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, data[:50])
    for piece, is_right in ((b"damaged", False), (data[50:], True)):
        partial.pin()
        one.append(partial, piece)
        partial.unpin(is_right=is_right)
    one.keep(partial)
    assert partial.whole() == (partial.path, hashlib.sha256(data).digest())


def test_the_digest_of_what_is_not_on_the_disk_is_forgotten(tmp_path: Path) -> None:
    data = bytes(range(100))
    one, other = made(tmp_path), made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"x" * 100)  # and then the disk fails
    one.give_back(partial)
    found = taken(other, partial.name)
    other.append(found, data)
    other.keep(found)
    other.give_back(found)
    assert taken(one, partial.name).whole()[1] == hashlib.sha256(data).digest()


# -- bounds --------------------------------------------------------------------------------


def test_the_number_of_open_ones_is_bounded(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, uploads=3, upload_time=50)
    first, *_ = [begun(one) for _ in range(3)]
    for server in (one, made(tmp_path, now, uploads=3, upload_time=50)):
        with pytest.raises(UnavailableError) as caught:
            server.create(PLAN)
        assert caught.value.retry_after is not None
    one.stored(taken(one, first.name), {})
    begun(one)
    now.time += 50
    assert [begun(one) for _ in range(3)]
    assert len(one) == 3
    assert len(names(tmp_path)) == 7


def test_one_user_does_not_take_them_all(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, uploads=6, uploads_each=2)
    ann, bob = replace(PLAN, owner="ann"), replace(PLAN, owner="bob")
    first = one.create(ann)
    one.give_back(first)
    one.give_back(one.create(ann))
    for server in (one, made(tmp_path, now, uploads=6, uploads_each=2)):
        with pytest.raises(UnavailableError, match="You have 2"):
            server.create(ann)
    one.give_back(one.create(bob))
    for _ in range(3):  # those of nobody in particular have no such bound
        begun(one)
    with pytest.raises(UnavailableError, match="There are 6"):
        one.create(bob)
    one.remove(taken(one, first.name))
    now.time += 2
    one.give_back(one.create(ann))


def test_of_those_that_are_stored_the_newest_are_known(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, uploads=3)
    stored = []
    for _ in range(10):
        now.time += 1
        stored.append(one.create(PLAN))
        one.stored(stored[-1], {})
        one.give_back(stored[-1])
    one.create(PLAN)
    assert len(one) == 1
    assert len([name for name in names(tmp_path) if name.endswith(".json")]) == 4
    assert one.find(stored[-3].name)[0].is_stored
    assert status_of(one, stored[-4].name) == 404


def test_the_size_of_all_together_is_bounded(tmp_path: Path) -> None:
    one = made(tmp_path, upload_bytes=100)
    first, second = one.create(PLAN), one.create(PLAN)
    one.append(first, b"x" * 60)
    one.append(second, b"x" * 40)
    for server in (one, made(tmp_path, upload_bytes=100)):
        with pytest.raises(StorageFullError):
            server.append(second, b"x")
    assert second.offset == 40
    one.remove(first)
    one.append(second, b"x" * 60)
    with pytest.raises(TooLargeError, match="at most 100 bytes, not 101"):
        one.create(Plan("key", 101, ""))


def test_what_a_request_has_does_not_expire(tmp_path: Path) -> None:
    now = Now()
    one = made(tmp_path, now, upload_time=50)
    held, other = one.create(PLAN), begun(one)
    now.time += 60
    one.create(PLAN)
    assert one.find(held.name)[1] is True
    assert status_of(one, other.name) == 404
    one.give_back(held)
    assert status_of(one, held.name) == 410
    assert status_of(one, held.name) == 404


# -- failures ------------------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello")

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(partial_module, "write_all", full)
        with pytest.raises(StorageFullError):
            one.append(partial, b"XXXXX")
        assert partial.offset == 5
    one.append(partial, b"w" * 95)
    path, digest = partial.whole()
    assert path.read_bytes() == b"hello" + b"w" * 95
    assert digest == hashlib.sha256(path.read_bytes()).digest()


def test_an_upload_that_cannot_be_begun_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path)
    begun(one)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(partial_module, "write_atomically", full)
    with pytest.raises(StorageFullError):
        one.create(PLAN)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_stored_is_so_though_nobody_can_note_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = made(tmp_path)
    partial = one.create(PLAN)

    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(partial_module, "write_atomically", broken)
    one.stored(partial, {"etag": '"r"'})
    assert partial.told == {"etag": '"r"'}
    assert "cannot be noted" in caplog.text


def test_a_folder_that_cannot_be_read_is_none_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = made(tmp_path / "file" / "uploads")
    with pytest.raises(StorageError):
        one.create(PLAN)
    (tmp_path / "file").unlink()
    assert one.create(PLAN).path.parent == tmp_path / "file" / "uploads"


# -- several servers -----------------------------------------------------------------------


def test_what_one_server_has_another_one_can_only_look_at(tmp_path: Path) -> None:
    one, other = made(tmp_path), made(tmp_path)
    partial = one.create(PLAN)
    one.append(partial, b"hello")
    for server in (one, other):
        assert server.take(partial.name) is None
    one.keep(partial)
    found, is_held = other.find(partial.name)
    assert (found.offset, is_held) == (5, True)
    assert not one.is_wanted(partial)
    other.want(partial.name)
    assert one.is_wanted(partial)
    assert other.heard(partial.name) == pytest.approx(time.time(), abs=60)
    one.give_back(partial)
    assert other.find(partial.name)[1] is False
    again = taken(other, partial.name)
    assert not other.is_wanted(again)
    other.remove(again)
    other.give_back(again)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal
from dataclasses import replace
from pathlib import Path
from kvstore.server.limits import Limits
from kvstore.server.resumable.partial import Plan
from kvstore.server.resumable.partials import Partials

partials = Partials(Path({folder!r}), Limits())
partial = partials.create(Plan("key", 100, ""))
partials.append(partial, b"hello")
partials.keep(partial)
partials.append(partial, b"world")
print(partial.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_server_that_was_killed_had_is_free(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    one = Partials(tmp_path, Limits())
    assert taken(one, done.stdout.strip()).offset == 5


def test_the_state_is_one_document(tmp_path: Path) -> None:
    partial = begun(made(tmp_path))
    document = json.loads(Path(f"{partial.path}.json").read_bytes())
    assert document.keys() == {"plan", "offset", "expires", "told"}


def test_without_a_folder_nothing_is_left() -> None:
    one = made(None)
    folder = begun(one, b"x").path.parent
    assert folder.exists()
    one.close()
    assert not folder.exists()
