from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("killed.py")


@pytest.mark.parametrize("kind", ["sqlite", "file", "http"])
def test_killed_at_any_moment_it_goes_on_and_sends_nothing_twice(kind):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), kind, "0", "1"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        assert json.loads(line)["wrong"] == []
    assert done.returncode == 0
