"""The steps of the demo: each with what is done, the Python that does it, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

import kvstore
from kvstore.cli.progress import Transfers
from kvstore.cli.spelling import Column, escaped, plain, show_size
from kvstore.cli.tables import as_table
from kvstore.documents import JsonObject
from kvstore.hashing import sha256
from kvstore.opening import open_store

_WIDTH = 100
_INDENT = 4
# A small FITS file whose header begins with cards that are good to read.
_SHOWN = "sky/2011/sa110_b.fits"


class Tour:
    """Shows one store on a server, from empty to copied.

    Args:
        url: of the server.
        root: the folder in which it keeps its store.
        data: the folder with the files.
        files: what the catalog says of them.
    """

    def __init__(self, url: str, root: Path, data: Path, files: Sequence[JsonObject]) -> None:
        self._url = url
        self._root = root
        self._data = data
        self._files = files
        #: The file that is looked into.
        self._key = _SHOWN if _SHOWN in {file["key"] for file in files} else files[0]["key"]
        self._events: list[kvstore.StoreEvent] = []
        self._stage = Stage()

    def run(self) -> None:
        """Take all the steps.

        Raises:
            StoreError: one came out otherwise than it should.
        """
        began = time.monotonic()
        with open_store(self._url) as store, open_store(self._url) as other:
            self._start(store)
            self._load(store)
            self._overview(store)
            self._query(store)
            self._range(store)
            self._conflict(store, other)
            self._permissions(store)
            self._tell_events()
            self._copy(store)
        self._look_into_folder()
        self._stage.end(f"All of this took {time.monotonic() - began:.1f} s.")

    def _start(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("A server over an empty folder, and a client with a listener")
        stage.code(f'store = kvstore.open("{self._url}")')
        stage.code("store.events.connect(StoreEvent, events.append)")
        store.events.connect(kvstore.StoreEvent, self._events.append)
        stage.say(f"The server has, beyond the basics: {', '.join(store.info()['capabilities'])}.")

    def _load(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("Store files with metadata")
        stage.code("store.set(key, path, metadata=metadata, mimetype=mimetype, progress=bar)")
        began = time.monotonic()
        size = 0
        with Transfers(len(self._files), stay=True) as bars:
            for file in self._files:
                path = self._data / file["path"]
                key, kind = file["key"], file["mimetype"]
                bar = bars.of(key)
                store.set(key, path, metadata=file["metadata"], mimetype=kind, progress=bar)
                bars.advance()
                size += path.stat().st_size
        seconds = time.monotonic() - began
        stage.say(f"{len(self._files)} files, {show_size(size)}, stored in {seconds:.2f} s.")

    def _overview(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("What is there now")
        stage.code("for value in store.multiget(store.query_keys()): ...")
        rows = []
        for value in store.multiget(store.query_keys()):
            title = str(value.metadata.get("title", ""))
            rows.append([value.key, show_size(value.size), title])
            value.close()
        stage.table([Column("key"), Column("size", right=True), Column("title")], rows)

    def _query(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("Find by metadata: exposures of two seconds and more; then what was begun first")
        stage.code('store.query(["exposure", "object"], where={"exposure": {"ge": 2}})')
        names = ["exposure", "object"]
        self._print_found(names, store.query(names, where={"exposure": {"ge": 2}}))
        stage.code('store.query(["observed", "site"], order_by="observed", limit=3)')
        names = ["observed", "site"]
        self._print_found(names, store.query(names, order_by="observed", limit=3))

    def _range(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        is_known = self._key == _SHOWN
        start, end = (400, 720) if is_known else (0, 80)
        what = ": cards 6 to 9 of a FITS header" if is_known else ""
        stage.step(f"Read a few bytes of a file{what}")
        stage.code(f'store.get_data_range("{self._key}", {start}, {end}).read()')
        with store.get_data_range(self._key, start, end) as stream:
            while card := stream.read(80):
                stage.say(card.decode("ascii", "replace"))

    def _conflict(self, store: kvstore.AuthorizingStore, other: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        key = self._key
        stage.step("Two clients change the same metadata; no change gets lost")
        stage.code("mine, theirs = store.get(key), other.get(key)")
        mine, theirs = store.get(key), other.get(key)
        stage.code('store.update_metadata(key, {"quality": "good"}, if_match=mine)')
        revision = store.update_metadata(key, {"quality": "good"}, if_match=mine)
        stage.say(f"Done: revision {mine.revision} became {revision}.")
        stage.code('other.update_metadata(key, {"quality": "poor"}, if_match=theirs)')
        try:
            other.update_metadata(key, {"quality": "poor"}, if_match=theirs)
        except kvstore.ConflictError as error:
            stage.say(f"ConflictError: {error}")
        found = other.get_metadata(key, ["quality"])
        stage.say(f"The metadata says: {found}.")
        _expect(found == {"quality": "good"}, "the second update should have been refused")

    def _permissions(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("Permissions")
        stage.code('store.update_permissions(key, {"read": {"public"}, "write": {"alice"}})')
        store.update_permissions(self._key, {"read": {"public"}, "write": {"alice"}})
        permissions = store.get_permissions(self._key)
        stage.say(
            "; ".join(f"{name}: {', '.join(sorted(permissions[name]))}" for name in permissions)
        )
        _expect(permissions["read"] == {"public"}, "the permission should have been given")

    def _tell_events(self) -> None:
        stage = self._stage
        stage.step("What the listener has heard")
        stage.code("Counter(type(event).__name__ for event in events)")
        counts = Counter(type(event).__name__ for event in self._events)
        told = [f"{count} {name}" for name, count in counts.items()]
        stage.say(", ".join(text for text in told if "Progress" not in text))
        stage.say(", ".join(text for text in told if "Progress" in text))
        changes = [e for e in self._events if isinstance(e, kvstore.StoreModificationEvent)]
        for event in (*changes[:2], None, *changes[-2:]):
            stage.say("…" if event is None else f"{event.action:<7} {event.key}")
        sets = sum(event.action == "set" for event in changes)
        _expect(sets == len(self._files), "each new key should have been told of once")

    def _copy(self, store: kvstore.AuthorizingStore) -> None:
        stage = self._stage
        stage.step("Copy everything into another store, here one in memory")
        stage.code("memory.set(key, store.get(key))")
        same = 0
        with kvstore.MemoryStore() as memory:
            for file in self._files:
                key = file["key"]
                memory.set(key, store.get(key))
                wanted = sha256((self._data / file["path"]).read_bytes())
                same += wanted == memory.get(key).digest
        stage.say(f"{same} of {len(self._files)} copies have the SHA-256 digest of the original.")
        _expect(same == len(self._files), "the copies should equal the files")

    def _look_into_folder(self) -> None:
        stage = self._stage
        stage.step("Where the server has put it: plain files, each with its metadata beside it")
        stage.code(f"find {self._root} -type f", prompt="$")
        files = sorted(
            path
            for path in self._root.rglob("*")
            if path.is_file() and path.relative_to(self._root).parts[0] != ".kvstore"
        )
        for path in files[:4]:
            stage.say(
                f"{path.relative_to(self._root).as_posix():<50} {show_size(path.stat().st_size):>9}"
            )
        stage.say(f"… and {len(files) - 4} more")

    def _print_found(self, names: list[str], found: Iterable[tuple[str, JsonObject]]) -> None:
        columns = [Column("key"), *(Column(name) for name in names)]
        rows = [[key, *(plain(metadata.get(name)) for name in names)] for key, metadata in found]
        self._stage.table(columns, rows)


class Stage:
    """Prints headed sections, as wide as the terminal but no wider than is good to read."""

    def __init__(self) -> None:
        self._console = Console(markup=False, emoji=False, highlight=False)
        width = self._console.width if self._console.is_terminal else _WIDTH
        self._console.width = min(width, _WIDTH)
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin a section."""
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps:>2}  {title}", style="bold"))

    def code(self, line: str, *, prompt: str = ">>>") -> None:
        """Show what is done, in Python unless the prompt is another one."""
        self._print(Text(f"{prompt} {escaped(line)}", style="green"))

    def say(self, text: str) -> None:
        """Show what came of it."""
        self._print(Text(escaped(text)))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Show what was found."""
        cells = [[escaped(cell) for cell in row] for row in rows]
        self._print(as_table(columns, cells, self._console.width - _INDENT))

    def end(self, text: str) -> None:
        """Show the last word."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def _print(self, shown: RenderableType) -> None:
        self._console.print(Padding(shown, (0, 0, 0, _INDENT), expand=False))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise kvstore.StoreError(f"The demo went wrong: {otherwise}.")
