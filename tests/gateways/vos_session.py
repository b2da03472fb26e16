"""Runs commands of the ``vos`` package, and calls of its Python client, in one process.

Run by the Python that has the package: a line of JSON in, a line of JSON out. Each command is the
installed script as it is; beginning a process for each would cost more than all that it does.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

REAL = sys.stdout


def run(argv: list[str]) -> dict[str, Any]:
    """Run a command, and return its code and what it printed."""
    script = Path(sys.executable).parent / argv[0]
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    error = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        sys.argv = [str(script), *argv[1:]]
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    out.seek(0)
    return {"code": code or 0, "out": out.read(), "error": error.getvalue()}


def call(name: str, args: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Call a method of the client, and return what it gives, or the error."""
    from vos import Client

    try:
        found = getattr(Client(**options.pop("client", {})), name)(*args, **options)
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        return {"error": type(error).__name__, "errno": getattr(error, "errno", None)}
    if hasattr(found, "props"):
        return {"found": {"uri": found.uri, "type": found.type, "props": found.props}}
    if hasattr(found, "read"):
        return {"found": found.read().decode("latin-1")}
    return {"found": list(found) if isinstance(found, tuple) else found}


def forget() -> None:
    """Let the client know nothing of what was asked before, as a process of its own would."""
    from vos import vos

    vos.nodeCache.clear()


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        if "argv" in asked:
            answer = run(asked["argv"])
        else:
            answer = call(asked["call"], asked["args"], asked["options"])
        forget()
        print(json.dumps(answer, default=str), file=REAL, flush=True)
