"""A home for the unmodified ``vos`` client, in which it finds a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.gateways.vos_space import IDENTIFIER
from tests.interop.peers import installed

#: The client, and what else it comes with.
PACKAGES = (
    *("vos==3.7", "cadcutils==1.6.2", "requests==2.34.2", "urllib3==2.8.0", "lxml==6.1.3"),
    *("aenum==3.1.17", "html2text==2025.4.15", "distro==1.9.0", "pyOpenSSL==26.4.0"),
)


def client() -> Path:
    """Return the folder of the client's commands; skip where it cannot be installed."""
    return installed("vos", PACKAGES)


def furnish(home: Path, url: str, identifier: str = IDENTIFIER) -> dict[str, str]:
    """Let the client find the server at *url*; return the environment for its processes.

    In short the space is ``kv:``, as some commands want it. What it would fetch from the network it
    has already: the registry, and a list of versions.
    """
    registry = home / ".config" / "cadc-registry"
    registry.mkdir(parents=True, exist_ok=True)
    (registry / "resource-caps").write_text(f"{identifier} = {url}/vos/capabilities\n")
    (home / ".config" / "vos").mkdir(exist_ok=True)
    names = f"[vos]\nresourceID = ivo://cadc.nrc.ca/vault vos\n    {identifier} kv\n"
    (home / ".config" / "vos" / "vos-config").write_text(names)
    for package in ("vos", "cadcutils"):
        versions = home / ".config" / package / "caches" / ".pypi_versions.json"
        versions.parent.mkdir(parents=True, exist_ok=True)
        versions.write_text('{"releases": {}}')
    keep = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    return {**keep, "HOME": str(home), "PATH": f"{client()}:/usr/bin:/bin"}


class Session:
    """The client in a process of its own, asked one thing after the other.

    Args:
        home: where it finds a server, see :func:`furnish`.
        folder: where it is.
        options: for each client of Python.
    """

    def __init__(self, environment: dict[str, str], folder: Path, **options: Any) -> None:
        script = Path(__file__).with_name("vos_session.py")
        self._options = options
        self._process = subprocess.Popen(
            [str(client() / "python"), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def run(self, *argv: object, code: int = 0) -> str:
        """Run a command that ends with *code*; return what it printed."""
        answer = self._ask({"argv": [str(word) for word in argv]})
        assert answer["code"] == code, answer
        told: str = answer["out"]
        return told

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """Return what a method of the client gives."""
        answer = self._call(name, *args, **options)
        assert "found" in answer, answer
        return answer["found"]

    def error(self, name: str, *args: Any) -> tuple[str, int | None]:
        """Return the name and number of the error that a method of the client raises."""
        answer = self._call(name, *args)
        assert "error" in answer, answer
        return answer["error"], answer["errno"]

    def _call(self, name: str, *args: Any, **options: Any) -> dict[str, Any]:
        options = {"client": self._options, **options} if self._options else options
        return self._ask({"call": name, "args": args, "options": options})

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer
