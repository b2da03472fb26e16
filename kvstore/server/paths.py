"""Where the URLs of a server are."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from kvstore.errors import InvalidRequestError
from kvstore.profiles.wire import SERVICE_PATH

#: Above the files of the data browser, whose page is at ``/``.
BROWSER_PATH = "/-/browser"

#: Of the description of all URLs.
OPENAPI_PATH = "/openapi.json"

#: Of what those ask who look after a server.
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"

_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+")
#: Those that are told of in any case; the others belong to capabilities of the same names.
_BASIC = ("base", "query")
#: Those that have other URLs below them.
_FOLDERS = ("base", "uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The paths of all that is served, apart from the service document.

    Raises:
        InvalidRequestError: one is malformed, or would be that of something else.
    """

    base: str = "/keys"
    query: str = "/query"
    changes: str = "/changes"
    batch: str = "/batch"
    uploads: str = "/uploads"
    have: str = "/have"

    def __post_init__(self) -> None:
        taken = {
            "service document": SERVICE_PATH,
            "data browser": BROWSER_PATH,
            "description": OPENAPI_PATH,
            "health": HEALTH_PATH,
            "readiness": READY_PATH,
            "metrics": METRICS_PATH,
        }
        for name, path in asdict(self).items():
            if not isinstance(path, str) or not _PATH.fullmatch(path):
                message = f"A path is '/' and a name, such as '/keys', not {path!r:.100}."
                raise InvalidRequestError(message)
            for other, its in taken.items():
                below = its.startswith(f"{path}/") and name in _FOLDERS
                if path == its or below or (path.startswith(f"{its}/") and other in _FOLDERS):
                    raise InvalidRequestError(
                        f"The path {path!r:.100} of the {name} meets {its!r:.100} of the {other}."
                    )
            taken[name] = path

    def relative(self, capabilities: list[str]) -> dict[str, str]:
        """The paths as the service document names them, which is one level down.

        So they hold behind a proxy that moves the server to a folder.
        """
        names = (*_BASIC, *capabilities)
        return {name: f"..{path}" for name, path in asdict(self).items() if name in names}
