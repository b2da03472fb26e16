"""Datasets on their way in: all files of one, or none.

Where the store has transactions the whole is one. Where it has none, the order of the writes keeps
readers of this protocol from ever seeing old and new files together: the key of the dataset says
first that an upload is going on, and at the end that it is done. Each write has the condition that
nobody came between. Files that are new come first, as they can be taken back; the manifest last, so
that for clients of other protocols the old one does not fit what is half replaced.
"""

from __future__ import annotations

import contextlib
import mimetypes
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.documents import JsonObject
from kvstore.errors import (
    ConflictError,
    KeyNotFoundError,
    StorageFullError,
    StoreError,
    UnavailableError,
)
from kvstore.gateways.datasafe.contents import Contents
from kvstore.gateways.datasafe.datasets import FIELD, Dataset, find_dataset, reservation
from kvstore.gateways.datasafe.lois import Loi
from kvstore.manifest import FILE_NAME, Verification, sums_of
from kvstore.server.answers import Refusal
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Record
from kvstore.writes import Change, Condition

_TRIES = 20
# Without the files of the system: the same name means the same type everywhere.
_TYPES = mimetypes.MimeTypes(filenames=())
for _suffix in (".yaml", ".yml"):
    _TYPES.add_type("application/yaml", _suffix)  # RFC 9512
for _suffix in (".info", ".dsc", ".par"):
    _TYPES.add_type("text/plain", _suffix)
#: Seconds for an upload to be written, and bytes a second that it writes at least.
_PATIENCE = 60.0
_RATE = 1 << 20
#: Bytes of a file that are compared first.
_HEAD = 1 << 16


class _MismatchError(Exception):
    """Undoes a transaction in which files were stored that do not fit their manifest."""

    def __init__(self, verification: Verification) -> None:
        super().__init__()
        self.verification = verification


@dataclass(slots=True)
class Deposit:
    """Puts one dataset into the store.

    Args:
        replace: whether it takes the place of one that is there; else there must be none.
        judge: refuses to change a dataset as it is now.
    """

    site: Site
    loi: Loi
    contents: Contents
    replace: bool = field(kw_only=True)
    judge: Callable[[Dataset], object] = field(kw_only=True)
    upload: str = field(default_factory=lambda: secrets.token_hex(8))
    #: The revision of the dataset's key since this upload has claimed it.
    claimed: str | None = None
    #: Whether old files and new ones may lie side by side, which nothing can undo.
    is_mixed: bool = field(default=False, kw_only=True)
    #: The keys that it has made, with their revisions.
    made: dict[str, str | None] = field(default_factory=dict)

    def run(self) -> Verification:
        """Store all of it if it fits its manifest, and return whether it does.

        Raises:
            Refusal: there is no such dataset (400), or it has files already, or has none (405).
            UnavailableError: others change it at the same time.
            StoreError: the store cannot take it; where it has transactions nothing was changed.
        """
        store = self.site.writer
        is_one_step = bool(store.info()["transactions"])
        # What can be undone is checked while it is stored, so that it is read once.
        if not is_one_step:
            self.contents.read()
            verification = self.contents.verify()
            if not verification:
                return verification
        try:
            for _ in range(_TRIES):
                with contextlib.suppress(ConflictError), store.transaction(f"deposit {self.loi}"):
                    return self._store(is_one_step=is_one_step)
        except _MismatchError as error:
            return error.verification
        except BaseException as error:
            self._give_up()
            if self.is_mixed and isinstance(error, StorageFullError) and not is_one_step:
                # Else it is told that nothing was changed.
                message = "No room is left, and a part is replaced; it has to be uploaded again."
                raise Refusal(507, message) from error
            raise
        self._give_up()
        raise UnavailableError("Others change this dataset, too.", retry_after=1.0)

    def _store(self, *, is_one_step: bool) -> Verification:
        found = find_dataset(self.site, self.loi)
        check_state(found, mine=self.upload, replace=self.replace)
        if self.claimed is None:
            self.judge(found)
        revision = found.record.revision if found.record is not None else None
        if not is_one_step:
            self._demand(found)
            if self.claimed is None:
                self.is_mixed = found.upload is not None and bool(found.members)
            until = time.time() + _PATIENCE + self.contents.size / _RATE
            facts = {**reservation(self.loi), "upload": self.upload, "until": until}
            self.claimed = revision = self._note(facts, found.record)
        old = {found.name_of(record): record for record in found.members}
        folders = {f"{name}/" for name in self.contents.archive.empty_folders}
        for folder in sorted(folders - old.keys()):
            self._put(folder, None, Source(b""), {"role": "folder"})
        names = [name for name in self.contents.archive.members if name != FILE_NAME]
        for name in sorted(names, key=old.__contains__):  # those that are new first
            self._write(name, old.pop(name, None))
        self._write(FILE_NAME, old.pop(FILE_NAME, None))
        for name, record in old.items():
            if name not in folders:
                self._remove(record)
        verification = self.contents.verify()
        if not verification:
            raise _MismatchError(verification)
        self._note(reservation(self.loi), found.record, revision)
        self.claimed = None
        return verification

    def _demand(self, found: Dataset) -> None:
        """Refuse at once what the caller may not do to a file, as nothing can be undone later."""
        for record in found.members:
            self.site.demand_change(record.key, Change(metadata={}))

    def _note(
        self, facts: JsonObject, record: Record | None, revision: str | None = None
    ) -> str | None:
        """Write down what is being done, if the dataset is as it was; return the new revision."""
        revision = revision or (record.revision if record is not None else None)
        is_new = record is None and revision is None
        condition = Condition(create_only=True) if is_new else Condition(if_match=revision)
        change = Change(metadata={FIELD: facts}, merge=not is_new, condition=condition)
        return self.site.writer.write(str(self.loi), change).revision

    def _write(self, name: str, old: Record | None) -> None:
        facts = {"role": self.contents.role(name)}
        source: Source | None = None
        if old is None or not self._is_there(name, old):
            source = Source(self.contents.source(name))
            source.size = self.contents.archive.members[name].size
        self._put(name, old, source, facts)

    def _is_there(self, name: str, old: Record) -> bool:
        """Tell whether a file is stored as it is, so that its key can stay as it is."""
        contents = self.contents
        if old.digest is None or old.size != contents.archive.members[name].size:
            return False
        if name not in contents.sums:
            # Most files that were changed differ here already, and need not be read for that.
            with contextlib.closing(contents.archive.pieces(name)) as pieces:
                head = next(pieces, b"")[:_HEAD]
            try:
                with self.site.store.get_data_range(old.key, 0, _HEAD) as stream:
                    if stream.read() != head:
                        return False
            except StoreError:  # such as that of a caller who may write it and not read it
                return False
            contents.sums[name] = sums_of(contents.archive.pieces(name))
        return old.digest == f"sha256:{contents.sums[name].sha256}"

    def _put(self, name: str, old: Record | None, source: Source | None, facts: JsonObject) -> None:
        """Write a file and what is said of it; without *source* its bytes stay as they are."""
        facts = {"loi": str(self.loi), **facts}
        if source is None and old is not None and old.metadata.get(FIELD) == facts:
            return
        condition = Condition(create_only=True)
        if old is not None:
            condition = Condition(if_match=old.revision or "*")
        change = Change(
            data=source,
            metadata={FIELD: facts},
            mimetype=None if source is None else _TYPES.guess_type(name)[0],
            merge=old is not None,
            condition=condition,
        )
        key = f"{self.loi}/{name}"
        written = self.site.writer.write(key, change)
        if old is None or (key in self.made and self.made[key] == old.revision):
            self.made[key] = written.revision
        else:
            self.is_mixed = True

    def _remove(self, record: Record) -> None:
        self.is_mixed = True
        with contextlib.suppress(KeyNotFoundError):
            self.site.writer.delete(record.key, if_match=record.revision)

    def _give_up(self) -> None:
        """Tell readers that this upload has ended; take back what it has begun, if that is all."""
        if self.claimed is None:
            return
        store = self.site.writer
        with contextlib.suppress(StoreError):
            for key, revision in self.made.items():
                with contextlib.suppress(ConflictError, KeyNotFoundError):  # others came after it
                    store.delete(key, if_match=revision)
            facts: JsonObject = reservation(self.loi)
            if self.is_mixed:
                facts = {**facts, "upload": self.upload, "until": 0}
            self._note(facts, None, self.claimed)


def check_state(found: Dataset, *, mine: str | None, replace: bool) -> None:
    """Refuse an upload that does not go with what there is.

    Args:
        mine: the name of the upload, which may have begun already.

    Raises:
        Refusal: as :meth:`Deposit.run`.
        UnavailableError: another upload is going on.
    """
    if not found.exists:
        raise Refusal(400, "LOI does not exist.")
    if found.upload is not None:
        if found.upload != mine and found.seconds_left() > 0:
            raise UnavailableError("The dataset is being changed.", retry_after=5.0)
        return  # what was cut off is begun anew, whichever way
    if replace and not found.members:
        raise Refusal(405, "Directory empty", [(b"allow", b"PUT")])
    if not replace and found.members:
        raise Refusal(405, "Directory not empty.", [(b"allow", b"PATCH")])
