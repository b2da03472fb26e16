"""What a page of the documentation tells people to type: its blocks, and what they print."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_DOCS = Path(__file__).parents[1] / "docs"
_HERE = "127.0.0.1:8000"
_MARK = "--- next ---"


@dataclass(frozen=True)
class Page:
    """The page ``docs/NAME.md``."""

    name: str

    def blocks(self, language: str) -> list[str]:
        """Return the blocks of a language, in their order."""
        text = (_DOCS / f"{self.name}.md").read_text(encoding="utf-8")
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return each command, and the lines that it prints; ``>`` goes on with a command."""
        found: list[tuple[str, list[str]]] = []
        for line in "".join(self.blocks("console")).splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> "):
                command, printed = found.pop()
                found.append((f"{command}\n{line[2:]}", printed))
            else:
                found[-1][1].append(line)
        return found

    def run(
        self,
        folder: Path,
        env: Mapping[str, str],
        *,
        port: int,
        serve: Iterable[str] = (),
        last: str = "",
    ) -> list[str]:
        """Run all commands, one behind the other; return what each printed, and then *last*.

        Args:
            folder: where.
            env: the environment, whose ``PATH`` the commands of this project go before.
            port: where its server is to listen; the page says 8000.
            serve: more options of that.
            last: a further command.
        """
        script = ["set -eu", "trap 'kill $!' EXIT", "mkfifo told"]
        for command, _ in self.commands():
            if command.startswith("kvstore serve"):
                options = " ".join(["--port", str(port), "--log none", *serve])
                command = f"{command} {options} > told & exec 3< told; read -r _ <&3"
            script += [command, f"echo; echo '{_MARK}'"]
        text = "\n".join([*script, last]).replace(_HERE, f"127.0.0.1:{port}")
        programs = Path(sys.executable).parent
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env={**env, "PATH": f"{programs}:{env.get('PATH', '/usr/bin:/bin')}"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout.replace(f"127.0.0.1:{port}", _HERE).split(f"\n{_MARK}\n")
        assert len(printed) == len(self.commands()) + 1
        return printed
