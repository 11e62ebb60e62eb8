"""Who drives a limit: opens connections, sends, and counts the answers."""

from __future__ import annotations

import asyncio
import contextlib

from hack.hostile_matrix.requests import OPEN, legacy, raw


class Attacker:
    """Opens connections to the gateway, and closes all of them at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: dict[str, int] = {}
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection that stays until `close`."""
        pair = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        self._open.append(pair)
        return pair

    async def read(self, reader: asyncio.StreamReader, seconds: float = 20.0) -> dict[str, str]:
        """Read one answer, or the head of a stream; count its status. Return its headers."""
        status, headers = "closed", {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(seconds):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = head[0].split(" ")[1]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                await reader.readexactly(int(headers.get("content-length", 0)))
        self.answers[status] = self.answers.get(status, 0) + 1
        return headers

    async def ask(self, body: bytes, headers: dict[str, str], times: int = 1) -> dict[str, str]:
        """Send the same request several times on one connection, one after the other."""
        reader, writer = await self.connect()
        found: dict[str, str] = {}
        for _ in range(times):
            with contextlib.suppress(OSError):
                writer.write(raw(body, headers))
                await writer.drain()
            found = await self.read(reader)
            if "content-length" not in found or found.get("connection") == "close":
                writer.close()
                reader, writer = await self.connect()
        return found

    async def session(self) -> str:
        """Open a session of the legacy era."""
        return (await self.ask(*legacy("initialize", OPEN)))["mcp-session-id"]

    def forget(self) -> None:
        """Close the connection that was opened last."""
        _, writer = self._open.pop()
        writer.close()

    async def close(self) -> None:
        """Close every connection."""
        for _, writer in self._open:
            writer.close()
        self._open.clear()
        await asyncio.sleep(0)
