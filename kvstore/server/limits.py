"""How much a client may ask of the server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from kvstore.documents import MAX_METADATA_BYTES
from kvstore.errors import InvalidRequestError

#: What becomes of data on their way to a client. ``checked``: they are hashed, and an answer with
#: data that are not those that were stored is broken off before its end. ``plain``: the kernel
#: sends large files unread, at twice the speed; clients compare with ``Repr-Digest`` or do not.
#: Ranges cannot be checked either way.
Reads: TypeAlias = Literal["checked", "plain"]


def _workers() -> int:
    return 2 * (os.cpu_count() or 1) + 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on requests, connections and time. Keys have the bounds of `kvstore.keys` anyhow.

    Raises:
        InvalidRequestError: a limit that is no positive number, or more metadata than any store
            takes.
    """

    #: Bytes of the target in the request line; 414 above.
    target: int = 8 * 1024
    #: Header lines of a request; 431 above.
    header_lines: int = 100
    #: Bytes of all header lines of a request; 431 above.
    header_bytes: int = 64 * 1024
    #: Bytes of a metadata or permissions document; 413 above.
    metadata: int = MAX_METADATA_BYTES
    #: Bytes of the data of one key; 413 above.
    data: int = 5 * 1024**3
    #: Keys in one page of a query that has a ``$limit``.
    page: int = 1000
    #: Seconds that a query may look at keys before its answer begins, and between two pieces of
    #: one that is streamed; 400 above.
    query_time: float = 30.0
    #: Entries in one answer of the change feed. Clients ask again behind the last one.
    changes: int = 10_000
    #: Seconds of silence after which a live feed sends a comment, so that both sides see a
    #: connection that is broken.
    heartbeat: float = 15.0
    #: Operations of one batch; 413 above.
    batch: int = 1000
    #: Bytes of the body of one batch; 413 above.
    batch_bytes: int = 16 * 1024**2
    #: Keys in one question which of them are here; 413 above.
    have: int = 10_000
    #: Bytes of the body of such a question; 413 above.
    have_bytes: int = 16 * 1024**2
    #: Uploads that are begun and not complete; 503 above.
    uploads: int = 1000
    #: Those of one user, where users are told apart; 503 above.
    uploads_each: int = 200
    #: Bytes that are kept of all of these together; 507 above.
    upload_bytes: int = 50 * 1024**3
    #: Seconds that an upload is kept after the last bytes of it came.
    upload_time: float = 24 * 3600.0
    #: Seconds from the first byte of a request (or from the connection) to the end of its header.
    header_time: float = 10.0
    #: Seconds that a transfer may stand still, up or down.
    idle_time: float = 30.0
    #: Bytes a second that a body must bring on average while the server waits for it; 408 below.
    rate: int = 1024
    #: Seconds that a connection is kept for the next request.
    keep_alive: float = 15.0
    #: Requests on one connection, after which it is closed.
    requests: int = 1000
    #: Open connections; 503 above.
    connections: int = 512
    #: Threads for calls of the store that end by themselves: small values, pieces of large ones.
    workers: int = field(default_factory=_workers)
    #: Threads for calls that go on as long as the client does: uploads, streamed queries. They
    #: are others than the workers, so that slow clients do not keep everybody waiting.
    streams: int = 64
    #: Bytes of memory, in each process, for small answers that are given again while nothing is
    #: changed.
    kept: int = 32 * 1024**2
    #: Bytes that are read and thrown away after a refusal, so that the client sees the answer.
    drain_bytes: int = 8 * 1024**2
    #: Seconds that this may take.
    drain_time: float = 3.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidRequestError(
                    f"The limit {limit.name!r} is a number above 0, not {value!r:.100}."
                )
        if self.metadata > MAX_METADATA_BYTES:
            raise InvalidRequestError(
                f"Metadata has at most {MAX_METADATA_BYTES} bytes, so its limit is not "
                f"{self.metadata}."
            )
