"""Settings for all tests."""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that runs four of them at a time. In CI the
# same examples are tried each time, so that a failure is the change's own.
settings.register_profile(
    "kvstore",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("kvstore")

# Workers are measured, but not the processes that tests start: a measurement there opens files,
# writes to stderr and delays the end of what is tested.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        del os.environ[name]

# Tests start hundreds of processes, each of which would compile the package again; and pytest would
# rewrite the assertions of all modules in each worker.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
