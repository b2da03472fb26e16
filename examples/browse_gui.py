"""A data browser: pages, progress and changes from a store, in a model that any GUI can show."""

import importlib.util
import io
from typing import Any

import kvstore


class Rows:
    """Keys and titles, read page by page and kept up to date by the store's events."""

    def __init__(self, store: kvstore.Store, page: int = 10) -> None:
        self.store, self.page = store, page
        self.cells, self.cursor = list[tuple[str, str]](), ""
        self.redraw: Any = lambda: None  # a GUI puts in its own
        store.events.connect(kvstore.StoreModificationEvent, self.follow)  # ends with this object
        self.fetch_more()

    def fetch_more(self) -> None:
        found = self.store.query(["title"], limit=self.page, after=self.cursor)
        self.cells += [(key, metadata["title"]) for key, metadata in found]
        self.cursor = found.cursor or self.cursor
        self.redraw()

    def follow(self, event: kvstore.StoreModificationEvent) -> None:
        if event.key <= self.cursor:  # else a later page will tell
            new = [] if event.action == "delete" else [(event.key, event.metadata["title"])]
            self.cells = sorted([cell for cell in self.cells if cell[0] != event.key] + new)
            self.redraw()


def show(rows: Rows, gui: Any, widgets: Any) -> None:
    application = widgets.QApplication(["browse", "-platform", "offscreen"])
    view, model = widgets.QTableView(), gui.QStandardItemModel()

    def redraw() -> None:
        model.clear()
        for cells in rows.cells:
            model.appendRow([gui.QStandardItem(text) for text in cells])

    rows.redraw = redraw
    view.setModel(model)
    view.show()
    rows.fetch_more()  # as when the user has scrolled to the end
    application.processEvents()
    print("The window shows", model.rowCount(), "rows")


if __name__ == "__main__":
    with kvstore.open("memory:") as store:
        for number in range(25):
            store.set(f"run/{number:02}", b"...", metadata={"title": f"Run {number}"})
        rows = Rows(store)
        new = io.BytesIO(bytes(3 << 20)), {"title": "Done anew"}
        store.set("run/00", new, progress=lambda *sizes: print("sent", *sizes))
        print(len(rows.cells), "of", store.count(), "rows, the first is", rows.cells[0])
        if importlib.util.find_spec("PySide6"):
            show(rows, *map(importlib.import_module, ("PySide6.QtGui", "PySide6.QtWidgets")))
