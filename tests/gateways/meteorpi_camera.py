"""A camera with events, files and statuses, and an exporter of our own that pushes them.

It does what is known of the exporter of MeteorPi 0.1.5, no more: it looks at the answers to
entities alone, and repeats as long as it is asked for something.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

STATUS = {
    "camera_id": "camA",
    "lens": "VF-DCD-AI-3.5-18-C-2MP",
    "sensor": "watec_902H2",
    "inst_name": "South Camera",
    "inst_url": "http://school.example/",
    "software_version": 1,
    "valid_from": 1427414400000,
    "location": {"lat": 52.2, "long": 0.1, "gps": True, "error": 1.0},
    "orientation": {"alt": 40.0, "az": 180.0, "rot": 0.0, "error": 0.5, "width": 30.0},
    "regions": [[{"x": 0, "y": 0}, {"x": 720, "y": 0}, {"x": 720, "y": 480}]],
}


@dataclass
class Camera:
    """What a camera has to export; ids are its own."""

    seed: int = 0
    statuses: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    events: dict[str, Any] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = (uuid.uuid5(uuid.UUID(int=self.seed), str(n)).hex for n in itertools.count())
        self.status_id = self.status()

    def status(self, **members: Any) -> str:
        """Make a status."""
        status_id = next(self._ids)
        self.statuses[status_id] = {**STATUS, "status_id": status_id, **members}
        return status_id

    def file(self, data: bytes, **members: Any) -> str:
        """Make a file."""
        file_id = next(self._ids)
        self.data[file_id] = data
        self.files[file_id] = {
            "file_id": file_id,
            "camera_id": "camA",
            "mime_type": "image/png",
            "file_name": "meteor.png",
            "semantic_type": "meteorpi:stacked_image",
            "file_time": 1427415300250,
            "file_size": len(data),
            "status_id": self.status_id,
            "md5": hashlib.md5(data).hexdigest(),
            "meta": [{"type": "number", "key": "meteorpi:peak", "value": 0.75}],
            **members,
        }
        return file_id

    def event(self, *file_ids: str, **members: Any) -> str:
        """Make an event of these files."""
        event_id = next(self._ids)
        self.events[event_id] = {
            "event_id": event_id,
            "camera_id": "camA",
            "event_time": 1427415300000,
            "event_type": "meteorpi:meteor",
            "status_id": self.status_id,
            "files": [self.files[file_id] for file_id in file_ids],
            "meta": [{"type": "string", "key": "meteorpi:name", "value": "Perseid"}],
            **members,
        }
        return event_id

    def entity(self, entity_id: str) -> dict[str, Any]:
        """The message that tells of a file or an event."""
        if entity_id in self.events:
            return {"type": "event", "event": self.events[entity_id]}
        return {"type": "file", "file": self.files[entity_id]}


class Exporter:
    """Pushes what a camera has to *target*, with the token as the password of Basic."""

    def __init__(self, target: str, camera: Camera, token: str = "any") -> None:
        self.target = target
        self.camera = camera
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.auth = ("camera", token)
        #: The states that were answered, and the uploads' as ``data:`` and theirs.
        self.told: list[str] = []

    def post(self, message: Any) -> requests.Response:
        """Send a message."""
        return self.web.post(self.target, json=message)

    def upload(
        self, file_id: str, data: Any = None, *, md5: str | None = None, mimetype: str = "image/png"
    ) -> requests.Response:
        """Send the data of a file."""
        content = self.camera.data[file_id] if data is None else data
        url = f"{self.target}/data/{file_id}/{md5 or self.camera.files[file_id]['md5']}"
        return self.web.post(url, files={"file": ("file", content, mimetype)})

    def export(self, entity_id: str, *, most: int = 100) -> str:
        """Push an event or a file: ``complete``, ``failed`` or ``confused`` is what came of it."""
        message: dict[str, Any] = self.camera.entity(entity_id)
        for _ in range(most):
            answer = self.post(message)
            if answer.status_code >= 400:
                self.told.append(str(answer.status_code))
                return "failed"
            state = answer.json()["state"]
            self.told.append(state)
            if state == "complete":
                return "complete"
            if state == "need_status":
                status = self.camera.statuses.get(answer.json()["status_id"])
                if status is None:
                    return "failed"
                self.post({"type": "status", "status": status})
            elif state == "need_file_data":
                sent = self.upload(answer.json()["file_id"])
                self.told.append(f"data:{sent.status_code}")
            elif state not in ("continue", "continue-nocache"):
                return "confused"
            message = {"type": "cached_entity", "cached_entity_id": entity_id}
            if state == "continue-nocache":
                message = self.camera.entity(entity_id)
        return f"still not after {most} requests"


def multipart(*parts: tuple[str, bytes], boundary: str = "line") -> Iterator[bytes]:
    """A body of parts, each with the lines of its header."""
    for lines, content in parts:
        yield f"--{boundary}\r\n{lines}\r\n\r\n".encode() + content + b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def as_input(camera: Camera, paths: dict[str, str], **more: Any) -> str:
    """The camera as `meteorpi_exporter` reads it."""
    documents = {
        "statuses": list(camera.statuses.values()),
        "files": list(camera.files.values()),
        "events": list(camera.events.values()),
    }
    return json.dumps({**documents, "paths": paths, **more})
