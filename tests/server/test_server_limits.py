from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from kvstore.errors import InvalidRequestError
from kvstore.server import Limits
from tests.cases import each


def test_defaults() -> None:
    limits = dataclasses.asdict(Limits())
    assert limits == {
        "target": 8192,
        "header_lines": 100,
        "header_bytes": 65536,
        "metadata": 1 << 20,
        "query_time": 30.0,
        "data": 5 << 30,
        "page": 1000,
        "changes": 10_000,
        "heartbeat": 15.0,
        "batch": 1000,
        "batch_bytes": 16 << 20,
        "have": 10_000,
        "have_bytes": 16 << 20,
        "uploads": 1000,
        "uploads_each": 200,
        "upload_bytes": 50 << 30,
        "upload_time": 86400.0,
        "header_time": 10.0,
        "idle_time": 30.0,
        "rate": 1024,
        "keep_alive": 15.0,
        "requests": 1000,
        "connections": 512,
        "workers": 2 * (os.cpu_count() or 1) + 16,
        "streams": 64,
        "kept": 32 << 20,
        "drain_bytes": 8 << 20,
        "drain_time": 3.0,
    }


@each("name", [field.name for field in dataclasses.fields(Limits)])
@each("value", [0, -1, None, "5", True, float("nan")])
def test_what_is_no_limit(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"The limit '{name}' is"):
        Limits(**{name: value})


def test_no_store_takes_more_metadata() -> None:
    with pytest.raises(InvalidRequestError, match="at most 1048576 bytes"):
        Limits(metadata=(1 << 20) + 1)
