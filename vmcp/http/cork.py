"""A transport that sends the head of an answer together with its first piece of body: one system call instead of two.

uvicorn writes head and body one after the other, and uvloop sends each write at once. Holding the head back until the
body follows, or until the loop comes round, saves a fifth of the system calls of a proxied call.
"""

from __future__ import annotations

import asyncio
from typing import Any


class CorkedTransport:
    """Wraps a transport; `cork` holds back what is written next, for one turn of the loop at most.

    Everything that is not named here is the wrapped transport's.
    """

    __slots__ = ("_held", "_inner", "_loop", "_scheduled")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._held = b""
        self._scheduled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        """Write; the head of an HTTP answer waits for what follows it."""
        if self._held:
            data, self._held = self._held + data, b""
            self._inner.write(data)
        elif data[:9] == b"HTTP/1.1 " and data[9:10] != b"1" and data[-4:] == b"\r\n\r\n":
            self._held = data
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._flush)
        else:
            self._inner.write(data)

    def _flush(self) -> None:
        self._scheduled = False
        if self._held:
            data, self._held = self._held, b""
            if not self._inner.is_closing():
                self._inner.write(data)

    def close(self) -> None:
        """Close, after what was held back."""
        self._flush_now()
        self._inner.close()

    def _flush_now(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            self._inner.write(data)

    def is_closing(self) -> bool:
        """Tell whether the transport is closing or closed."""
        return self._inner.is_closing()
