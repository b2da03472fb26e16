"""Servers of other projects, installed once for a machine and started for a test session."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

#: Seconds for pip, and for a server to begin.
PATIENCE = 150.0

FILETRACKER = (
    *("filetracker==2.3.3", "bsddb3==6.2.7", "gevent==26.9.0", "gunicorn==23.0.0"),
    *("requests==2.34.2", "six==1.17.0", "progressbar2==4.6.0"),
)
DATASAFE = (
    *("labinform-datasafe==0.1.0b1", "requests==2.34.2", "setuptools==80.9.0"),
    *("Flask==3.1.3", "Werkzeug==3.1.9", "PyYAML==6.0.4", "oyaml==1.0"),
)


def cache() -> Path:
    """The folder that keeps what was installed from one run to the next."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kvstore-tests"


def installed(name: str, packages: Sequence[str]) -> Path:
    """Return the ``bin`` of a virtual environment with these packages; skip where there is none.

    All workers of a test run share it, and the next run, too.
    """
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    folder = cache() / f"{name}-{version}"
    wanted = "\n".join(packages)
    done = folder / "installed.txt"
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=2 * PATIENCE):
            if not done.is_file() or done.read_text() != wanted:
                _run(sys.executable, "-m", "venv", "--clear", str(folder))
                pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "-q")
                _run(*pip, "--retries", "1", "--timeout", "15", *packages)
                done.write_text(wanted)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        last = said.strip().splitlines()[-1] if said.strip() else "no reason told"
        pytest.skip(f"{packages[0]} cannot be installed here: {last[:200]}")
    return folder / "bin"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)


def program(name: str, package: str) -> str:
    """Return the path of a program of the system; skip where it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package})")
    return path


def free_port() -> int:
    """A port where nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class NotStartedError(Exception):
    """The server ended before it was ready; the text is what it said."""


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: str,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[re.Match[str]]:
    """A server as a process of its own, from when it prints what matches *ready*.

    Its whole session is ended on leaving: some servers have workers.
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    found: list[re.Match[str]] = []
    told = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            match = re.search(ready, line)
            if match is not None and not found:
                found.append(match)
                told.set()
        told.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        if not told.wait(PATIENCE) or not found:
            raise NotStartedError("".join(lines)[-2000:])
        yield found[0]
    finally:
        _end(process)
        listener.join(PATIENCE)
        if process.stdout is not None:
            process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.wait(PATIENCE)
