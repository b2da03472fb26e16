"""Python processes that tests talk to, line by line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def child_process(
    script: ModuleType, *, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run *script* until the end of the ``with`` block; it says "ready" first."""
    # A coverage measurement in the child would open files of its own among those that count.
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        [sys.executable, str(script.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()
