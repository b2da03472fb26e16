"""Imports point downwards only, without cycles, and what is optional is imported where it belongs.

Every import statement counts, also those within functions and for type checkers alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.cases import each

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kvstore"

#: The modules below everything else; each may import those before it.
FLOOR = [
    *("version", "errors", "keys", "documents", "values", "where", "query", "matches"),
    *("hashing", "readers", "streams", "writes"),
    *("hub", "events", "filenames", "files", "disk", "mapping", "filters", "parallel"),
]
CORE = [
    *FLOOR,
    *("lifecycle", "history", "noticing", "watching", "readonly"),
    *("transactions", "store", "authorizing", "local"),
]

#: What the modules of a package may import beside each other; a name stands for what is in it.
PACKAGES: dict[str, list[str]] = {
    "profiles": ["errors", "keys", "documents", "values", "where", "query", "history"],
    "transport": [
        *("version", "errors", "keys", "documents", "values", "query"),
        *("readers", "streams", "writes"),
        *("hashing", "files", "parallel", "hub", "history", "noticing"),
        "profiles",
    ],
    "stores": CORE,
    "compose": CORE,
    "server": [*CORE, "compose.authorized", "profiles"],
    "manifest": CORE,
    "replication": [*CORE, "profiles"],
    "gateways": [*CORE, "manifest", "replication", "profiles", "server"],
    "testing": [*CORE, "kvstore", "server"],
    "cli": [*CORE, "kvstore", "opening", "profiles", "stores", "server", "manifest", "replication"],
}

#: Other projects, and where they may be imported.
OTHERS: dict[str, list[str]] = {
    "jsonschema": ["documents", "writes"],
    "referencing": ["documents"],
    "requests": ["transport", "stores.dynamic_url", "testing", "server.access.oidc_keys"],
    "urllib3": ["transport", "testing"],
    "click": ["cli"],
    "rich": ["cli"],
    "astropy": ["cli"],
    "PIL": ["cli"],
    "starlette": ["server", "testing.http"],
    "uvicorn": ["server", "testing.http"],
    "httptools": ["server"],
    "uvloop": ["server"],
    "anyio": ["server", "testing.http"],
    "prometheus_client": ["server"],
    "hypothesis": ["testing"],
    "pytest": ["testing"],
    "responses": ["testing"],
    "filelock": ["compose.locks", "server.access.tokens"],
    "jwt": ["server.access.oidc", "server.access.oidc_keys"],
    "cryptography": ["server.access.oidc_keys"],
    "defusedxml": ["profiles.xmlevents"],
    "yaml": ["manifest"],
}
REQUIRED = {"jsonschema", "referencing", "requests", "urllib3"}


def name_of(path: Path) -> str:
    """Return the name of a module without that of the package; "kvstore" is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "kvstore"


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of all that is imported; of a ``from`` both parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def split(module: str) -> tuple[set[str], set[str]]:
    """Return which of our modules a module imports, and which other projects."""
    mine, others = set(), set()
    for full in imported(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        top, _, rest = full.partition(".")
        if top != "kvstore":
            others.add(top)
        elif rest in MODULES:
            mine.add(rest)
        else:
            mine.add(rest.rpartition(".")[0] or "kvstore")
    return mine, others - set(sys.stdlib_module_names)


@cache
def graph() -> dict[str, set[str]]:
    """Return the modules of ours that each imports; not made where tests are only collected."""
    return {module: split(module)[0] for module in MODULES}


def within(module: str, names: list[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def test_every_module_has_its_place() -> None:
    places = [*CORE, *PACKAGES, "kvstore", "opening", "__main__"]
    assert [module for module in MODULES if not within(module, places)] == []
    assert [name for name in CORE if name not in MODULES] == []
    assert "kvstore.kvstore" not in graph()


def test_every_import_is_of_a_module_that_exists() -> None:
    assert {name for names in graph().values() for name in names} <= MODULES.keys()


def test_there_are_no_cycles() -> None:
    list(TopologicalSorter(graph()).static_order())  # raises with the cycle


@each("module", CORE)
def test_the_core_stands_on_what_is_below(module: str) -> None:
    below = CORE[: CORE.index(module)]
    assert [name for name in graph()[module] if name not in below] == []


@each("module", [m for m in MODULES if m.partition(".")[0] in PACKAGES])
def test_packages_import_what_they_may(module: str) -> None:
    package = module.partition(".")[0]
    allowed = [package, *PACKAGES[package]]
    if module in ("stores.dynamic_url", "stores._remote"):
        allowed += ["profiles", "transport"]
    assert [name for name in graph()[module] if not within(name, allowed)] == []


def test_no_store_imports_another() -> None:
    shared: dict[str, str] = {}
    for module, names in graph().items():
        for name in names:
            if not (module.startswith("stores.") and name.startswith("stores.")):
                continue
            assert name.startswith("stores._"), f"{module} imports the store {name}"
            if not module.startswith("stores._"):  # each private part belongs to one store
                assert shared.setdefault(name, module) == module


def users_of(name: str) -> set[str]:
    return {module for module, names in graph().items() for used in names if within(used, [name])}


def test_the_transport_belongs_to_the_store_on_servers() -> None:
    users = {module for module in users_of("transport") if not within(module, ["transport"])}
    assert users == {"stores.dynamic_url", "stores._remote", "kvstore"}  # which passes names on


def test_the_command_line_is_imported_by_nobody() -> None:
    assert {module for module in users_of("cli") if not within(module, ["cli"])} == {"__main__"}
    assert users_of("__main__") == set()


def test_opening_is_for_the_top() -> None:
    assert graph()["opening"] <= {"errors", "authorizing"} | {
        m for m in MODULES if within(m, ["stores"])
    }
    assert all(within(module, ["kvstore", "cli"]) for module in users_of("opening"))


def test_the_top_only_passes_names_on() -> None:
    tree = ast.parse(MODULES["kvstore"].read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body}
    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}
    assert within("kvstore", ["kvstore"])
    assert [name for name in graph()["kvstore"] if within(name, ["cli", "server", "testing"])] == []
    users = {module for module, names in graph().items() if "kvstore" in names}
    assert [module for module in users if not within(module, ["testing", "cli"])] == []


@each("module", MODULES)
def test_other_projects_are_imported_where_they_belong(module: str) -> None:
    for project in split(module)[1]:
        assert project in OTHERS, f"{project} is no dependency"
        assert within(module, OTHERS[project]), f"{project} has no place in {module}"


def run(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_importing_the_package_imports_nothing_optional() -> None:
    optional = sorted(OTHERS.keys() - REQUIRED)
    shown = run(f"import sys, kvstore; print([n for n in {optional} if n in sys.modules])")
    assert shown == "[]\n"


def test_the_package_works_without_anything_optional() -> None:
    shown = run(
        "import sys\n"
        # What is None here cannot be imported.
        f"sys.modules.update(dict.fromkeys({sorted(OTHERS.keys() - REQUIRED)}))\n"
        "import kvstore\n"
        "with kvstore.open('memory:') as store:\n"
        "    store.set('k', b'abc', metadata={'n': 1})\n"
        "    print(store.to_bytes('k'), list(store.query_keys(n=1)))\n"
    )
    assert shown == "b'abc' ['k']\n"


@each("module", FLOOR)
def test_each_module_of_the_floor_can_be_imported_first(module: str) -> None:
    # Whoever imports a module imports the package before it; this is the module all alone.
    program = (
        "import sys, types\n"
        "package = types.ModuleType('kvstore')\n"
        f"package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['kvstore'] = package\n"
        f"import kvstore.{module}\n"
        "print(sorted(n for n in sys.modules if n.startswith('kvstore.')))\n"
    )
    loaded = {name.partition(".")[2] for name in ast.literal_eval(run(program))}
    assert loaded <= {*FLOOR[: FLOOR.index(module) + 1]}
