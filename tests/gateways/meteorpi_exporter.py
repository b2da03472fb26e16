"""Runs the exporter of MeteorPi 0.1.5 as its authors published it, on a database of dicts.

Its packages are for Python 2: `itertools.izip` and `basestring` are given back to it, and the
package's own `__init__`, which wants a Firebird server, is passed over. A JSON document on standard
input says what is to be exported; what became of each export goes to standard output.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import itertools
import json
import logging
import sys
import types
import uuid
import warnings
from typing import Any

warnings.simplefilter("ignore")


class Requests(logging.Handler):
    """Counts what `urllib3` says that it has sent."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.getMessage().count('"POST ')


class Marks:
    """A connection, its transaction and its cursor: sees which exports are marked as done."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def execute(self, _statement: str, values: tuple[Any, ...]) -> None:
        """Take `UPDATE ... SET exportState = 0 WHERE ...`."""
        self.done.append(values[1])

    def cursor(self) -> Marks:
        return self

    trans = cursor

    def commit(self) -> None:
        """Nothing to commit."""

    close = commit


class Database:
    """What the exporter asks of its database."""

    def __init__(self, given: dict[str, Any], model: Any, exporter: Any) -> None:
        self.files = self._known(model.FileRecord, given["files"], "file_id")
        self.events = self._known(model.Event, given["events"], "event_id")
        self.statuses = self._known(model.CameraStatus, given["statuses"], "status_id")
        self.paths = {uuid.UUID(hex=name): path for name, path in given["paths"].items()}
        self.tasks = [
            self._task(exporter, number, kind, uuid.UUID(hex=entity_id), given)
            for number, (kind, entity_id) in enumerate(given["tasks"])
        ]
        self.con = Marks()

    def _known(self, model: Any, documents: Any, name: str) -> dict[uuid.UUID, Any]:
        return {uuid.UUID(hex=each[name]): model.from_dict(each) for each in documents}

    def _task(self, exporter: Any, number: int, kind: str, entity_id: uuid.UUID, given: Any) -> Any:
        task = {"event": exporter.EventExportTask, "file": exporter.FileExportTask}[kind]
        return task(
            self, uuid.UUID(int=1), 1, entity_id, number, 0, 1,
            given["target"], given["user"], given["password"],
        )  # fmt: skip

    def get_next_entity_to_export(self) -> Any:
        return self.tasks.pop(0) if self.tasks else None

    def get_camera_status_by_id(self, status_id: uuid.UUID) -> Any:
        return self.statuses.get(status_id)

    def get_event(self, event_id: uuid.UUID) -> Any:
        return self.events[event_id]

    def get_file(self, file_id: uuid.UUID) -> Any:
        return self.files.get(file_id)

    def file_path_for_id(self, file_id: uuid.UUID) -> str:
        path: str = self.paths[file_id]
        return path


def loaded() -> tuple[Any, Any]:
    """The modules `meteorpi_model` and `meteorpi_fdb.exporter`, unchanged."""
    itertools.izip = zip  # type: ignore[attr-defined]
    builtins.basestring = str  # type: ignore[attr-defined]
    spec = importlib.util.find_spec("meteorpi_fdb")
    assert spec is not None
    package = types.ModuleType("meteorpi_fdb")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["meteorpi_fdb"] = package
    return importlib.import_module("meteorpi_model"), importlib.import_module(
        "meteorpi_fdb.exporter"
    )


def main() -> None:
    """Export everything, one after the other."""
    given = json.load(sys.stdin)
    model, exporter = loaded()
    requests = Requests()
    logger = logging.getLogger("urllib3.connectionpool")
    logger.addHandler(requests)
    logger.setLevel(logging.DEBUG)
    database = Database(given, model, exporter)
    work = exporter.MeteorExporter(database)
    outcomes = []
    while True:
        requests.count = 0
        state = work.handle_next_export()
        if state is None:
            break
        outcomes.append({"state": state.state, "requests": requests.count})
    json.dump({"outcomes": outcomes, "done": database.con.done}, sys.stdout)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
