"""What docs/vospace-client.md tells people to type works."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from kvstore.gateways.vospace import VospaceGateway
from kvstore.server.running.run import serve_background
from kvstore.stores.memory import MemoryStore

PAGE = Path(__file__).parents[2] / "docs" / "vospace-client.md"


def test_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(console|python)\n(.*?)^```", text, re.M | re.S)
    (_, console), (_, code) = blocks
    store = MemoryStore()
    with serve_background(store, gateways=[VospaceGateway()]) as url:
        caps = f"ivo://kvstore/vos = {url}/vos/capabilities\n"
        (tmp_path / "resource-caps").write_text(caps)
        script = "set -e\n" + re.sub(r"^\$ ", "", console, flags=re.M)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script.replace("http://127.0.0.1:8000", url)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "lab/run1" in done.stdout
        assert done.stdout.endswith("hello")
        again = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ast.literal_eval(again.stdout) == {"title": "Second", "filters": ["r", "i"]}
        assert store.to_bytes("lab/run2") == b"data"
