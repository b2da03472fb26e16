"""Datasets as the clients of the datasafe send them, and the requests that they send."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from kvstore import Store
from kvstore.manifest import FILE_NAME, Manifest, MetadataFile, checksum_of, sums_of
from tests.server.sockets import Answer, ask

FAMILY = "42.1001/ds/exp/sa/42/cwepr"
INFO = b"cwEPR Info file - v. 0.1.4 (2020-01-21)\n"
FILES = {"run.dat": b"data" * 10, "run.info": INFO}


def manifest_of(files: Mapping[str, bytes], loi: str = "") -> Manifest:
    """The manifest that the client of labinform-datasafe makes: MD5 alone."""
    sums = {name: sums_of([data]) for name, data in files.items() if not name.endswith("/")}
    data = [name for name in sums if not name.endswith(".info")]
    return Manifest(
        loi=loi,
        data=tuple(data),
        metadata=tuple(MetadataFile(name) for name in sums if name.endswith(".info")),
        checksum=checksum_of(sums.values()),
        data_checksum=checksum_of(sums[name] for name in data),
    )


def archive(
    files: Mapping[str, bytes], manifest: Manifest | bytes | None = None, **options: int
) -> bytes:
    """A ZIP archive of files, with the manifest that fits them if none is given."""
    given = manifest_of(files) if manifest is None else manifest
    text = given if isinstance(given, bytes) else given.to_yaml()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, **options) as target:
        for name, data in {**files, FILE_NAME: text}.items():
            target.writestr(name, data)
    return packed.getvalue()


def unpacked(answer: Answer) -> dict[str, bytes]:
    """The files of an archive that was sent, but for the manifest."""
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as source:
        assert source.testzip() is None
        names = [name for name in source.namelist() if name != FILE_NAME]
        return {name: source.read(name) for name in names}


class Safe:
    """The datasafe of the server at *url*, over *store*."""

    def __init__(self, url: str, store: Store) -> None:
        self.url = url
        self.store = store

    def ask(self, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
        return ask(self.url, method, f"/datasafe/api/{path}", *lines, body=body)

    def new(self, family: str = FAMILY) -> str:
        """Reserve a number."""
        answer = self.ask("POST", family)
        assert answer.status == 201, answer.body
        return answer.body.decode()

    def put(self, loi: str, files: Mapping[str, bytes] = FILES) -> str:
        """Deposit a dataset where there is none."""
        answer = self.ask("PUT", loi, body=archive(files))
        assert (answer.status, answer.body) == (200, b'{"data":true,"all":true}'), answer.body
        return loi

    def files(self, loi: str) -> dict[str, bytes]:
        """Download a dataset."""
        return unpacked(self.ask("GET", loi))

    def keys(self, prefix: str = "") -> list[str]:
        return list(self.store.query_keys(prefix=prefix))
