"""A program under test as a process: its log lines, its signals, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Program:
    """Runs `python ARGUMENTS` in the repository; an async context manager that kills what is left.

    Its environment is that of the tests with `environ` on top, or without `inherit` nothing but `environ`.

    Attributes:
        lines: What it wrote to stderr: JSON lines parsed, others as {"msg": line}.
    """

    def __init__(self, *arguments: str, environ: Mapping[str, str] | None = None, inherit: bool = True) -> None:
        self.arguments: Sequence[str] = (sys.executable, *arguments)
        self.environ = {**(os.environ if inherit else {}), **(environ or {})}
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self.ended_at: float | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self.arguments, cwd=ROOT, env=self.environ, stderr=asyncio.subprocess.PIPE, limit=1 << 22
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._reader

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self, timeout: float) -> int:
        """Wait for its end and return the exit code; negative: the signal that ended it."""
        async with asyncio.timeout(timeout):
            code = await self._process.wait()
            await asyncio.shield(self._reader)
        return code

    async def log(self, message: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait for a line with this message."""
        return await self.line(lambda line: line.get("msg") == message, timeout, message)

    async def line(
        self, matches: Callable[[dict[str, Any]], bool], timeout: float = 20.0, what: str = "a line"
    ) -> dict[str, Any]:
        """Wait for a line; the error shows what came instead."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    found = next((line for line in self.lines if matches(line)), None)
                    if found is not None:
                        return found
                    if self._reader.done():
                        raise AssertionError(f"ended without {what!r}:\n" + "\n".join(self.raw[-20:]))
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {what!r} within {timeout} s:\n" + "\n".join(self.raw[-20:])) from None

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            text = raw.decode(errors="replace").rstrip()
            self.raw.append(text)
            try:
                line = json.loads(text)
            except ValueError:
                line = {"msg": text}
            self.lines.append(line if isinstance(line, dict) else {"msg": text})
            self._changed.set()
        await self._process.wait()
        self.ended_at = time.time()
        self._changed.set()
