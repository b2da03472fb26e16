"""What the README and the documentation tell people to copy works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kvstore.documents import check_document
from tests.cases import each

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("number", range(len(blocks(ROOT / "README.md", "python"))))
def test_python_in_the_readme_runs(number, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = blocks(ROOT / "README.md", "python")[number]
    space: dict[str, object] = {}
    exec(compile(code, f"README.md, block {number}", "exec"), space)
    for name in ("store", "other"):
        if name in space:
            space[name].disconnect()  # type: ignore[attr-defined]
    assert "Traceback" not in capsys.readouterr().out


def test_the_first_example_prints_what_one_expects(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(blocks(ROOT / "README.md", "python")[0], {})
    assert capsys.readouterr().out.splitlines() == [
        "9 30.0 b'SIMPLE  ='",
        "sky/m31.fits {'exposure': 30.0, 'filter': 'B'}",
        "['sky/m31.fits']",
    ]


@each("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_service_document_in_the_protocol_page_is_valid():
    document = json.loads(blocks(ROOT / "docs" / "protocol.md", "json")[0])
    check_document(document, "service", what="example")


def test_commands_named_in_the_readme_are_targets_of_make():
    named = set(re.findall(r"^\$ make (\w+)", (ROOT / "README.md").read_text(), re.M))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert named == {"demo", "test"}
    assert named <= targets
