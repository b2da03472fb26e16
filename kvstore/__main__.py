"""The command line: ``python -m kvstore``, and the console script ``kvstore``."""

from __future__ import annotations

import importlib.util
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line, or say what has to be installed for it."""
    if not all(importlib.util.find_spec(name) for name in ("click", "rich")):
        print("kvstore: the command line needs: pip install 'kvstore[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        signal.signal(signal.SIGTERM, _end)
        # Only here: the extras it needs were not looked for until now.
        from kvstore.cli.main import cli

        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal may not know all that keys may hold
                stream.reconfigure(errors="backslashreplace")
        cli(prog_name="kvstore")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end(signum: int, _: FrameType | None) -> None:
    # An exception, not the end of the process: temporary files are removed on the way out.
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
