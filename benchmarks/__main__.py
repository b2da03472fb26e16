"""``python -m benchmarks [NAMES] [--quick]``: measure, and print tables."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata

from benchmarks import (
    bench_curl,
    bench_datasafe,
    bench_events,
    bench_faults,
    bench_filetracker,
    bench_http,
    bench_index,
    bench_library,
    bench_many,
    bench_memory,
    bench_server,
    bench_stores,
    bench_sync,
)
from benchmarks.measure import Table

#: Distributions whose versions the figures depend on.
LIBRARIES = (
    "kvstore",
    "requests",
    "urllib3",
    "uvicorn",
    "httptools",
    "uvloop",
    "encore",
    "blinker",
    "diskcache",
    "httpx",
    "obstore",
    "fsspec",
    "aiohttp",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for; all if none is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join(_RUNS), help="all if none is given")
    parser.add_argument("--quick", action="store_true", help="less of everything, rougher figures")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(_RUNS):
        parser.error(f"There is no benchmark {min(unknown)!r}, only {', '.join(_RUNS)}.")
    print(machine())
    print("Median and extremes over rounds; a ratio is taken within each round, above 1 is faster.")
    for name, run in _RUNS.items():
        if name in (options.names or _RUNS):
            print(f"\n== {name}")
            run(quick=options.quick)
    return 0


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    versions = (f"{name} {_version(name)}" for name in LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {python}, SQLite {sqlite3.sqlite_version}, {', '.join(versions)}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _http(*, quick: bool) -> None:
    _print(bench_http.tables(bench_http.QUICK if quick else bench_http.Scale()))


def _stores(*, quick: bool) -> None:
    if not bench_stores.is_complete():
        print("encore is not installed: no ratios (pip install encore).")
    _print(bench_stores.tables(bench_stores.QUICK if quick else bench_stores.Scale()))


def _library(*, quick: bool) -> None:
    if lacking := bench_library.missing():
        names = " ".join(lacking)
        print(f"Not installed, so without ratios: {names} (pip install {names}).")
    _print(bench_library.tables(bench_library.QUICK if quick else bench_library.Scale()))


def _index(*, quick: bool) -> None:
    _print(bench_index.tables(bench_index.QUICK if quick else bench_index.Scale()))


def _curl(*, quick: bool) -> None:
    if not bench_curl.is_possible():
        print("curl is not installed.")
        return
    _print(bench_curl.tables(bench_curl.QUICK if quick else bench_curl.Scale()))


def _many(*, quick: bool) -> None:
    _print(bench_many.tables(bench_many.QUICK if quick else bench_many.Scale()))


def _events(*, quick: bool) -> None:
    if quick:
        bench_events.ROUNDS, bench_events.SPAN = 3, 0.02
        bench_events.CASES = [case for case in bench_events.CASES if case[0] <= 1_000]
    bench_events.main()


def _faults(*, quick: bool) -> None:
    if lacking := bench_faults.missing():
        print(f"Not installed, so without a row: {', '.join(lacking)}.")
    _print(bench_faults.tables(bench_faults.QUICK if quick else bench_faults.Scale()))


def _server(*, quick: bool) -> None:
    if lacking := bench_server.missing():
        print(f"Not installed: {', '.join(lacking)}.")
        return
    _print(bench_server.tables(bench_server.QUICK if quick else bench_server.Scale()))


def _memory(*, quick: bool) -> None:
    if not bench_memory.is_possible():
        print("Needs Linux and its /proc/<pid>/clear_refs.")
        return
    _print(bench_memory.tables(bench_memory.QUICK if quick else bench_memory.Scale()))


def _filetracker(*, quick: bool) -> None:
    scale = bench_filetracker.QUICK if quick else bench_filetracker.Scale()
    _print(bench_filetracker.tables(scale))


def _datasafe(*, quick: bool) -> None:
    _print(bench_datasafe.tables(bench_datasafe.QUICK if quick else bench_datasafe.Scale()))


def _sync(*, quick: bool) -> None:
    _print(bench_sync.tables(bench_sync.QUICK if quick else bench_sync.Scale()))


def _print(tables: Iterable[Table]) -> None:
    for table in tables:
        print(f"\n{table}", flush=True)


_RUNS = {
    "http": _http,
    "curl": _curl,
    "many": _many,
    "stores": _stores,
    "library": _library,
    "index": _index,
    "events": _events,
    "memory": _memory,
    "faults": _faults,
    "server": _server,
    "filetracker": _filetracker,
    "datasafe": _datasafe,
    "sync": _sync,
}

if __name__ == "__main__":
    sys.exit(main())
