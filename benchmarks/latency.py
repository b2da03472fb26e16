"""A relay that adds latency to a server, as a network between two cities does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

_PIECE = 1 << 16


@contextlib.contextmanager
def relay(url: str, seconds: float) -> Iterator[str]:
    """Give the URL of a relay to the server at *url*; each way takes *seconds* longer.

    What is under way at a time has no bound, so that latency is all that it adds.
    """
    target = urlsplit(url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, there = await asyncio.open_connection(target.hostname, target.port)
        # asyncio shows the end of a task that serves a connection as a failure of its callback.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_carry(reader, there, seconds), _carry(answers, writer, seconds))
        there.close()
        writer.close()

    server = run(asyncio.start_server(serve, "127.0.0.1", 0))
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        run(_end(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        piece = b"-"
        while piece:
            try:
                piece = await reader.read(_PIECE)
            except OSError:
                piece = b""
            pieces.put_nowait((loop.time() + seconds, piece))

    reading = asyncio.create_task(read())
    try:
        with contextlib.suppress(OSError):
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
    finally:
        reading.cancel()
        writer.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    mine = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not mine]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # the sockets are closed by the loop itself
