"""The log of a server that is a program of its own: one line for each request and each warning.

An application within another program installs nothing: there the loggers ``kvstore.access`` and
``kvstore.server`` are for that one to listen to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import time
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii
from typing import TextIO

from kvstore.profiles.problems import visible
from kvstore.server.observing.observer import ACCESS, FIELDS
from kvstore.server.running.settings import LogFormat


@contextlib.contextmanager
def logging_to(log_format: LogFormat, stream: TextIO | None = None) -> Iterator[None]:
    """Write lines until the ``with`` statement is left.

    Args:
        log_format: ``text`` for people, ``json`` for programs, ``none`` for no lines about
            requests; warnings come in any case. ``auto`` is ``text`` on a terminal and ``json``
            elsewhere, or none of it in a program that has set up logging itself.
        stream: standard error if None.
    """
    root, access = logging.getLogger(), logging.getLogger(ACCESS)
    stream = sys.stderr if stream is None else stream
    if log_format == "auto" and not root.handlers and not access.handlers:
        log_format = "text" if stream.isatty() else "json"
    if log_format in ("auto", "none"):
        yield
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if log_format == "text" else JsonLines())
    handler.addFilter(_is_news)
    before = access.level
    root.addHandler(handler)
    access.setLevel(logging.INFO)
    try:
        yield
    finally:
        access.setLevel(before)
        root.removeHandler(handler)


class JsonLines(logging.Formatter):
    """Each record as one line of JSON, in ASCII: whatever a key holds, nothing else is a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        head = (
            f'{{"time": "{_second(int(record.created))}.{int(record.msecs):03}Z", '
            f'"level": "{record.levelname.lower()}", "logger": {_text(record.name)}'
        )
        values = record.__dict__
        if record.name == ACCESS and FIELDS[0] in values:
            # By hand: a third of the time that any encoder takes, at each request.
            return (
                f'{head}, "method": {_text(values["method"])}, "path": {_text(values["path"])}, '
                f'"status": {values["status"]}, "outcome": "{values["outcome"]}", '
                f'"bytes_in": {values["bytes_in"]}, "bytes_out": {values["bytes_out"]}, '
                f'"duration_ms": {values["duration_ms"]}, "caller": {_text(values["caller"])}, '
                f'"client": {_text(values["client"])}, '
                f'"request_id": {_text(values["request_id"])}, '
                f'"user_agent": {_text(values["user_agent"])}}}'
            )
        document = {"message": record.getMessage()}
        document.update((name, values[name]) for name in FIELDS if name in values)
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        rest = json.dumps(document, default=str).replace("\x7f", "\\u007f")
        return f"{head}, {rest[1:]}"


class TextLines(logging.Formatter):
    """Each record as one line for people; only the trace of an error has more of them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, or the lines."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        values = record.__dict__
        if record.name == ACCESS and FIELDS[0] in values:
            ended = "" if values["outcome"] == "done" else f" {values['outcome']}"
            who = "" if values["caller"] is None else f" {values['caller']}"
            return (
                f"{clock} {values['method']} {values['path']} {values['status']}{ended}"
                f" {values['bytes_out']} bytes {values['duration_ms']} ms"
                f" {values['client'] or '-'}{who} {values['request_id']}"
            )
        lines = [f"{clock} {record.levelname}: {visible(record.getMessage())}"]
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            lines += [visible(line) for line in trace.splitlines()]
        return "\n".join(lines)


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring_ascii(value).replace("\x7f", "\\u007f")


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record tells what no other one has told."""
    error = record.exc_info[1] if record.exc_info else None
    # Which the application raises to make the server hang up; the reason is in the log by then.
    return not (record.name == "uvicorn.error" and isinstance(error, ConnectionAbortedError))
