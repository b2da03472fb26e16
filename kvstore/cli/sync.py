"""The command that makes one store follow another: ``sync``."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import Any

import click

from kvstore.cli.arguments import Place, parse_document, store_url
from kvstore.cli.copying import extent_of
from kvstore.cli.failures import CONFLICT, FAILED, INTERRUPTED, sentence_of
from kvstore.cli.following import while_read
from kvstore.cli.output import Output, complain, output_options, with_output
from kvstore.cli.progress import Transfers
from kvstore.cli.spelling import Column, show_size
from kvstore.errors import StoreError
from kvstore.replication import Outcome, Replication, Rules, SyncReport, follow

SOURCE_TOKEN = "KVSTORE_SOURCE_TOKEN"  # noqa: S105 - the name of one
TARGET_TOKEN = "KVSTORE_TARGET_TOKEN"  # noqa: S105


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--where", metavar="JSON", help="Only what this filter finds; @FILE reads it.")
@click.option("--prefix", default="", help="Only the keys that begin with this.")
@click.option(
    "--on-conflict",
    type=click.Choice(["report", "source", "destination"]),
    default="report",
    show_default=True,
    help="Who wins where TARGET has something else that did not come from SOURCE.",
)
@click.option(
    "--deletions",
    type=click.Choice(["follow", "keep"]),
    default="follow",
    show_default=True,
    help="Whether keys that are gone at SOURCE go at TARGET, too.",
)
@click.option(
    "--permissions",
    type=click.Choice(["keep", "copy"]),
    default="keep",
    show_default=True,
    help="Whether permissions travel; else those at TARGET stay, and new keys belong to you.",
)
@click.option(
    "--requires",
    metavar="FIELD",
    help="The field that names keys which have to be at TARGET before; they travel first.",
)
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=3, show_default=True, metavar="N",
    help="How often one key is tried.",
)  # fmt: skip
@click.option("--name", help="What SOURCE is called at TARGET, where its URL may change.")
@click.option(
    "--memory", metavar="STORE", help="Where to remember what was in step, if not at TARGET."
)
@click.option("--watch", is_flag=True, help="Go on with what changes at SOURCE, until Ctrl-C.")
@output_options
@with_output
def sync(
    output: Output, /, source: str, target: str, memory: str | None, watch: bool, **asked: Any
) -> int:
    """Bring the store TARGET up to date with the store SOURCE.

    Only what is missing travels: data that TARGET has under the same key is not sent again, however
    it came there. What SOURCE has deleted since the last time is deleted. Where TARGET was changed
    by others it stays as it is, and the conflict is reported, unless --on-conflict says who wins.

    It may be interrupted or killed at any time; run it again, and it goes on. What was in step is
    remembered at TARGET under the prefix .sync/, one key for a thousand.

    Tokens for servers are in KVSTORE_SOURCE_TOKEN and KVSTORE_TARGET_TOKEN, else in KVSTORE_TOKEN.

    Exit codes: 0 all is there, 1 some keys failed, 4 some are in conflict.
    """
    if asked["where"] is not None:
        asked["where"] = parse_document(asked["where"], "--where")
    rules = Rules(**asked)
    read = Place(store_url(source), (), SOURCE_TOKEN)
    write = Place(store_url(target), (), TARGET_TOKEN)
    with contextlib.ExitStack() as stack:
        old, new = stack.enter_context(read.open_existing()), stack.enter_context(write.open())
        kept = None
        if memory is not None:
            kept = stack.enter_context(Place(store_url(memory), ()).open())
        count = None if watch else extent_of(old, where=rules.where, prefix=rules.prefix)[0]
        with Transfers(count) as transfers:

            def tell(outcome: Outcome) -> None:
                transfers.advance()
                if outcome.status != "same" and (watch or not output.for_people):
                    _tell(output, outcome)

            def transfer(key: str) -> Any:
                return transfers.of(f"sync {key}")

            with Replication(
                old, new, rules, tell=tell, transfer=transfer, memory=kept
            ) as replication:
                try:
                    _run(replication, old, watch=watch)
                finally:
                    report = replication.report
    if output.for_people and not watch:
        for outcome in (*report.conflicts, *report.failures):
            _tell(output, outcome)
    _print(output, report)
    if watch:
        return INTERRUPTED
    return FAILED if report.failed else CONFLICT if report.conflicted else 0


def _run(replication: Replication, source: Any, *, watch: bool) -> None:
    if not watch:
        replication.run()
        return
    with contextlib.suppress(KeyboardInterrupt), while_read() as halt:  # as it is meant to end
        follow(replication, source, halt, complain=_complain)


def _complain(error: StoreError) -> None:
    complain(f"{sentence_of(error)} Trying again.")


def _tell(output: Output, outcome: Outcome) -> None:
    """Print what became of one record: for people only what they may have to look at."""
    if not output.for_people:
        output.result("", asdict(outcome))
        sys.stdout.flush()
    elif outcome.status in ("conflict", "failed"):
        complain(f"{outcome.status}: {outcome.key!a:.300}: {outcome.reason}")


def _print(output: Output, report: SyncReport) -> None:
    counts = {name: value for name, value in asdict(report).items() if isinstance(value, int)}
    if output.as_json:
        output.documents([{"summary": counts}])
        return
    if output.for_people:
        named = [(name, value) for name, value in counts.items() if name != "size"]
        rows: list[list[Any]] = [[*pair] for pair in named if pair[1] or pair[0] == "same"]
        rows.append(["bytes sent", show_size(report.size)])
        output.table([Column("outcome"), Column("keys", right=True)], rows)
