"""The clients of other systems, each in a process of its own, and our server as they see it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.serving import ROOT
from tests.interop.peers import running

#: The URL of a server on this machine, in what it prints.
LOCAL: Final = r"(http://127\.0\.0\.1:\d+)"

#: Has the client do a job, and waits until it is done.
Job: TypeAlias = Callable[[str], None]


@contextlib.contextmanager
def ours(gateway: str, folder: Path) -> Iterator[str]:
    """Serve a store in a folder, with a gateway; gives the URL of the server."""
    options = ("--port", "0", "--gateway", gateway, "--log", "none")
    command = [sys.executable, "-m", "kvstore", "serve", f"sqlite:{folder}", *options]
    with running(command, LOCAL, cwd=ROOT, env={"TMPDIR": str(folder.parent)}) as match:
        yield match[1]


@contextlib.contextmanager
def client(programs: Path, code: str, url: str, folder: Path, *, cwd: Path) -> Iterator[Job]:
    """Run a client: *code* that takes a job from each line that it reads, and answers ``done``.

    Args:
        programs: of the virtual environment that has the client.
        url: of the server, and
        folder: of its files: its arguments.
        cwd: where it runs, and where temporary files go.
    """
    command = [str(programs / "python"), "-W", "ignore", "-c", code, url, str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd)},
    ) as process:

        def do(job: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{job}\n")
            process.stdin.flush()
            while (line := process.stdout.readline().strip()) != "done":
                if not line and process.poll() is not None:
                    raise RuntimeError(f"The client of {url} ended: {job}.")

        try:
            yield do
        finally:
            process.terminate()
