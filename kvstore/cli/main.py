"""The command group, and what becomes of errors: one line, and a number for programs."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from kvstore.cli.copying import cp
from kvstore.cli.demo import demo
from kvstore.cli.documents import meta, perms
from kvstore.cli.failures import (
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    USAGE,
    code_of,
    sentence_of,
)
from kvstore.cli.folders import export, import_command
from kvstore.cli.history import log, versions
from kvstore.cli.manifest import manifest_command
from kvstore.cli.output import Output, complain, output_options
from kvstore.cli.profiles import profile_command
from kvstore.cli.reading import get, info, ls, query
from kvstore.cli.serve import serve
from kvstore.cli.sync import sync
from kvstore.cli.tokens import token_command
from kvstore.cli.verifying import verify
from kvstore.cli.writing import rm, set_command
from kvstore.errors import StoreError
from kvstore.version import __version__


class Commands(click.Group):
    """Turns errors into one line on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises ends here, unless it is a mistake of ours."""
        try:
            result = super().invoke(ctx)
            ctx.ensure_object(Output).finish()
        except BrokenPipeError:
            _give_up_stdout()
            ctx.exit(PIPE_CLOSED)
        except KeyboardInterrupt:
            complain("Interrupted.")
            ctx.exit(INTERRUPTED)
        except click.UsageError as error:
            name = ctx.invoked_subcommand
            if error.ctx is None and name is not None:
                error.ctx = click.Context(self.commands[name], parent=ctx, info_name=name)
            raise
        except (StoreError, OSError) as error:
            if ctx.ensure_object(Output).debug:
                traceback.print_exc()
            complain(sentence_of(error))
            ctx.exit(code_of(error))
        return result

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and end the process with the exit code."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx is not None else "kvstore"
            complain(f"{error.format_message().rstrip('.')} (see {path} --help).")
            code = USAGE
        except click.ClickException as error:
            complain(error.format_message())
            code = FAILED
        except click.Abort:
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    "kvstore",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="kvstore %(version)s")
@output_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Blobs with metadata, permissions and queries: in a folder, or on a server.

    STORE is the first argument of every command: sqlite:data for a folder with an index, file:data
    for a folder of plain files, ./data for the one that is there, http://host for a server, memory:
    for an empty one. Without it the store is the one in KVSTORE_URL. A token that a server asks for
    is the one in KVSTORE_TOKEN.

    \b
      kvstore import sqlite:data photos
      kvstore serve sqlite:data
      kvstore set http://127.0.0.1:8000 runs/1 m31.fits -m exposure=30 -m 'tags=["a","b"]'
      kvstore query http://127.0.0.1:8000 exposure=30 --select exposure,tags
      kvstore get http://127.0.0.1:8000 runs/1 -o m31.fits

    Values in name=value are JSON where they are JSON, else text. In a terminal output is for
    people; else it is tab-separated lines; with --json it is JSON, one document a line for lists.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such key, 4 conflict, 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


COMMANDS: tuple[click.Command, ...] = (
    *(ls, get, set_command, rm, meta, query, perms, info),
    *(
        cp,
        sync,
        import_command,
        export,
        log,
        versions,
        verify,
        manifest_command,
        serve,
        token_command,
        demo,
        profile_command,
    ),
)
for command in COMMANDS:
    cli.add_command(command)


def _give_up_stdout() -> None:
    # What is buffered still would be written, and fail again, when Python ends.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
