"""The client of filetracker from PyPI, unmodified, in a process that does what tests tell it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.peers import FILETRACKER, PATIENCE, installed

# Runs one program for each line, and answers with what it left in `result`, or how it failed.
_RUNNER = """
import contextlib, io, json, sys
import filetracker.client as f

out = sys.stdout
for line in sys.stdin:
    job = json.loads(line)
    space = {**job["given"], "f": f}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(job["program"], space)
        answer = {"result": space.get("result")}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=out, flush=True)
"""


class ClientError(Exception):
    """What the client raised."""


@dataclass
class Client:
    """The process, and a folder for its files."""

    process: subprocess.Popen[str]
    programs: Path

    def run(self, program: str, **given: Any) -> Any:
        """Run a program that finds *given* and the client as ``f``; return its ``result``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        told = {name: str(each) if isinstance(each, Path) else each for name, each in given.items()}
        self.process.stdin.write(json.dumps({"program": program, "given": told}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["result"]

    def shell(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the program ``filetracker``."""
        return subprocess.run(
            [self.programs / "filetracker", *arguments],
            env={"PATH": f"{self.programs}:/usr/bin:/bin", **env},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@contextlib.contextmanager
def client_process() -> Iterator[Client]:
    """The client, ready to run programs; the test is skipped where it cannot be installed."""
    programs = installed("filetracker", FILETRACKER)
    command = [str(programs / "python"), "-W", "ignore", "-c", _RUNNER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Client(process, programs)
        finally:
            process.terminate()
