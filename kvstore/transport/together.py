"""Changes of many keys: as few requests as the server allows, several of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import chain, groupby, islice
from typing import TypeAlias

from kvstore.noticing import OwnChange
from kvstore.parallel import Crew, in_order
from kvstore.transport.dialect import Dialect
from kvstore.writes import Change, Written

Pair: TypeAlias = tuple[str, Change]
Done: TypeAlias = tuple[str, Change, Written]
One: TypeAlias = Callable[[str, Change], Written]
Reported: TypeAlias = Callable[[str, Change], AbstractContextManager[OwnChange]]


def write_each(
    server: Dialect, crew: Crew, changes: Iterable[Pair], one: One, reported: Reported
) -> Iterator[Done]:
    """Make each change, and yield it with what came of it, in the order given.

    Args:
        one: makes a change that travels alone, and tells of its progress.
        reported: the context of one that travels with others, which tells of its progress.
    """

    def way(pair: Pair) -> str:
        if server.sends_together(pair[1]):
            return "together"
        source = pair[1].data
        return "parallel" if source is None or source.independent else "alone"

    def done(pair: Pair) -> Done:
        return (*pair, one(*pair))

    for chosen, run in groupby(changes, way):
        if chosen == "together":
            yield from _together(server, run, done, reported)
        elif chosen == "parallel":
            yield from in_order(crew, done, run, same=lambda pair: pair[0])
        else:
            yield from map(done, run)


def _together(
    server: Dialect, run: Iterator[Pair], done: Callable[[Pair], Done], reported: Reported
) -> Iterator[Done]:
    while ahead := list(islice(run, 2)):
        if len(ahead) == 1:
            yield done(ahead[0])
            return
        batch = server.begin_batch()
        with ExitStack() as stack:
            owns = []
            for pair in chain(ahead, run):
                owns.append(stack.enter_context(reported(*pair)))
                batch.add(*pair)
                if batch.is_full:
                    break
            results = server.send_batch(batch)
            for own, written in zip(owns, results, strict=True):
                own.revision = written.revision
        for (key, change), written in zip(batch.changes, results, strict=True):
            yield key, change, written
