"""A script: store observations with metadata, find them, correct one, copy them."""

import json
import tempfile
from pathlib import Path

import kvstore

DATA = Path(__file__).parent / "data"


def main() -> None:
    # For a server this would be kvstore.open("http://..."); nothing else changes.
    with tempfile.TemporaryDirectory() as folder, kvstore.open(f"file:{folder}") as store:
        load(store)

        print("Long exposures, the longest first:")
        found = store.query(["exposure"], where={"exposure": {"ge": 10}}, order_by="-exposure")
        for key, metadata in found:
            print(f"  {metadata['exposure']:7.1f} s  {key}")

        correct(store, "sky/2011/sa110_b.fits", {"observer": "M. Craig"})

        with store.get_data_range("sky/2011/sa110_b.fits", 0, 80) as stream:
            print("The first card of its header:", stream.read().decode("ascii").rstrip())

        with kvstore.open("memory:") as copies:
            copy(store, copies, prefix="sun/")
            print(f"{copies.count()} of {store.count()} keys copied")


def load(store: kvstore.Store) -> None:
    """Store the files of the catalog, each with what the catalog says of it."""
    for file in json.loads((DATA / "catalog.json").read_text(encoding="utf-8"))["files"]:
        path = DATA / file["path"]
        store.set(file["key"], path, metadata=file["metadata"], mimetype=file["mimetype"])


def correct(store: kvstore.Store, key: str, fields: dict[str, str]) -> None:
    """Change metadata, unless somebody else has changed the key since we looked at it."""
    value = store.get(key)
    print(f"{key} is {value.size} bytes of {value.mimetype}")
    try:
        store.update_metadata(key, fields, if_match=value)
    except kvstore.ConflictError as error:
        print("Look again before you decide:", error)


def copy(source: kvstore.Store, target: kvstore.Store, *, prefix: str) -> None:
    """Copy data and metadata; what is large streams from one to the other."""
    for key in source.query_keys(prefix=prefix):
        target.set(key, source.get(key))


if __name__ == "__main__":
    main()
