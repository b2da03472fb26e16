"""What commands print: tables for people, lines for programs, JSON for both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from kvstore.cli.spelling import Column, escaped, json_text, plain

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Output:
    """Where a command prints to. Commands get it by `output_options`."""

    def __init__(self) -> None:
        self.as_json = False
        self.debug = False
        self._escaped = 0

    @property
    def for_people(self) -> bool:
        """Whether somebody looks at it: neither JSON nor a pipe nor a file."""
        return not self.as_json and sys.stdout.isatty()

    def shown(self, text: str) -> str:
        """Return *text* with all that a terminal would obey, or that breaks lines, escaped."""
        safe = escaped(text)
        self._escaped += safe != text
        return safe

    def line(self, text: str) -> None:
        """Print a line that is safe already."""
        sys.stdout.write(f"{text}\n")

    def document(self, document: Mapping[str, Any], columns: Sequence[Column] = ()) -> None:
        """Print one object: its fields one below the other, or as one JSON document.

        Args:
            columns: how the fields of these names are spelled.
        """
        if self.as_json:
            self.line(json_text(document, indent=2))
            return
        known = {column.name: column for column in columns}
        fields = [
            (self.shown(name), self._cell(value, known.get(name, Column(name))))
            for name, value in document.items()
        ]
        if self.for_people:
            _tables().print_fields(fields)
        else:
            for name, cell in fields:
                self.line(f"{name}\t{cell}")

    def documents(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Print many objects as JSON, one a line."""
        for document in documents:
            self.line(json_text(document))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Print rows of values: as a table for people, else as tab-separated lines."""
        cells = ([self._cell(*pair) for pair in zip(row, columns, strict=True)] for row in rows)
        if self.for_people:
            _tables().print_table(columns, cells)
        else:
            for line in cells:
                self.line("\t".join(line))

    def result(self, sentence: str, row: Mapping[str, Any]) -> None:
        """Print what was done: a sentence for people, else the values of *row*."""
        if self.as_json:
            self.documents([row])
        elif self.for_people:
            self.line(self.shown(sentence))
        else:
            self.line("\t".join(self.shown(plain(value)) for value in row.values()))

    def finish(self) -> None:
        """Tell of keys and values that were not printed as they are."""
        sys.stdout.flush()
        if self._escaped and not self.for_people:
            complain("Some text holds control characters and is shown escaped; --json is exact.")

    def _cell(self, value: Any, column: Column) -> str:
        spell = column.show if self.for_people else column.write
        return self.shown(plain(value) if spell is None or value is None else spell(value))


def _tables() -> Any:
    # rich takes a tenth of a second to import, which is for tables only.
    from kvstore.cli import tables

    return tables


def output_options(command: _Command) -> _Command:
    """Give a command ``--json`` and ``--debug``, and the `Output` as its first argument."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        output = ctx.ensure_object(Output)
        if value:
            setattr(output, parameter.name or "", True)

    flags: dict[str, Any] = {
        "is_flag": True,
        "expose_value": False,
        "is_eager": True,
        "callback": remember,
    }
    command = click.option("--debug", **flags, help="Show where an error came from.")(command)
    return click.option("--json", "as_json", **flags, help="Print JSON.")(command)


with_output = click.make_pass_decorator(Output, ensure=True)


def complain(message: str) -> None:
    """Print one line to standard error."""
    sys.stdout.flush()
    click.echo(f"kvstore: {escaped(message)}", err=True)
