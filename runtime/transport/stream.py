"""Watch streams: lines out of chunks, with a limit and a watchdog.

aiohttp's own `readline` refuses lines beyond twice its buffer and copies more; this one takes lines of any size up to a
limit and hands over all complete lines of a chunk at once. HTTP/1.1 has no ping: a connection whose other end vanished
looks idle for ever, so silence has a limit too. Any byte counts as a sign of life, or a slow line would be cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from runtime.wire.errors import TransportError

MAX_LINE = 32 * 1024 * 1024
"""Bytes of one line. etcd refuses objects above 1.5 MiB by default, aggregated servers may send more."""


class LineTooLongError(TransportError):
    """A line beyond the limit; its stream cannot be read any further."""


class StalledError(TransportError):
    """No byte came for too long."""


class ChunkReader(Protocol):
    """Where bytes come from: an aiohttp StreamReader, or a test."""

    async def readany(self) -> bytes:
        """Return the next bytes, b"" at the end."""


async def read_lines(
    reader: ChunkReader, *, silence: Callable[[], float], max_line: int = MAX_LINE
) -> AsyncGenerator[list[bytes], None]:
    """Yield batches of complete lines, without line ends and empty ones.

    A last line without line end is dropped: its sender died in the middle of it.

    Args:
        reader: the body of the answer.
        silence: seconds without a byte after which the stream counts as dead, asked before each read.
        max_line: longest line, bytes.

    Raises:
        StalledError: `silence` is over.
        LineTooLongError: a line exceeds `max_line`.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(silence()):
                chunk = await reader.readany()
        except TimeoutError:
            raise StalledError("no byte from the server") from None
        if not chunk:
            return
        head, newline, rest = chunk.rpartition(b"\n")
        if newline:
            # Joined only when a line end came, so a long line costs its length once.
            parts.append(head)
            lines = [line for line in b"".join(parts).split(b"\n") if line]
            parts = [rest] if rest else []
            size = len(rest)
            if lines:
                yield lines
        else:
            parts.append(chunk)
            size += len(chunk)
        if size > max_line:
            raise LineTooLongError(f"a line of more than {max_line} bytes")
