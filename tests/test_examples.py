"""What users copy runs."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def has_tests(path: Path) -> bool:
    """Tell whether pytest finds tests in the file."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return any(
        (isinstance(node, ast.FunctionDef) and node.name.startswith("test"))
        or (isinstance(node, ast.ClassDef) and node.name.startswith("Test"))
        for node in nodes
    )


def is_script(path: Path) -> bool:
    """Tell whether running the file does anything but define tests."""
    return not has_tests(path) or "__main__" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", list(filter(is_script, EXAMPLES)), ids=lambda path: path.stem)
def test_script_runs(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    output = capsys.readouterr()
    assert output.out
    assert "Traceback" not in output.err


@pytest.mark.parametrize("path", list(filter(has_tests, EXAMPLES)), ids=lambda path: path.stem)
def test_tests_pass(path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_fits_a_screen_or_two(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80


def test_own_store_is_among_them() -> None:
    [own] = [path for path in EXAMPLES if path.stem == "own_store"]
    assert len(own.read_text(encoding="utf-8").splitlines()) <= 60
