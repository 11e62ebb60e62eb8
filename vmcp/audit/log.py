"""The audit log: a bounded queue and one thread that writes.

A request never waits for a disk. Its line is made where the request ends: a few microseconds, while a thread that makes
lines takes turns with the event loop and costs it several times as much. Only lines that hold parts of bodies are made
in the thread, because looking through those takes long. What does not fit into the queue is counted and said in the log
and in `/metrics`. The file is opened with mode 0600 and opened again when somebody moved it away, so log rotation needs
no signal.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import structlog

from vmcp.audit.interface import AuditEvent
from vmcp.audit.line import LineMaker, LineSettings
from vmcp.observe.logs import current_redactor

log = structlog.get_logger(__name__)

MAX_QUEUE = 20_000
BATCH_SECONDS = 0.02
"""How long the writer lets events gather: fifty wake-ups a second at most."""
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What the audit section says.

    Attributes:
        line: What a line holds.
        event_types: Written; empty = all.
        exclude_event_types: Not written; wins.
        log_file: Path; empty = standard output.
    """

    line: LineSettings = field(default_factory=LineSettings)
    event_types: frozenset[str] = frozenset()
    exclude_event_types: frozenset[str] = frozenset()
    log_file: str = ""


class NoAudit:
    """`AuditLog` where none is configured."""

    enabled = False

    def write(self, event: AuditEvent) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Nothing to close."""


class ThreadedAuditLog:
    """`AuditLog` with a writer thread."""

    enabled = True

    def __init__(
        self, settings: AuditSettings, *, dropped: Callable[[], None] | None = None, max_queue: int = MAX_QUEUE
    ) -> None:
        """Open the file and start the thread.

        Args:
            settings: What is written, and where.
            dropped: Called for each event that is lost.
            max_queue: Events that may wait for the thread; more are lost.

        Raises:
            OSError: The file cannot be opened.
        """
        self._settings = settings
        self._dropped = dropped
        self._max_queue = max_queue
        self._queue: deque[bytes | tuple[float, AuditEvent]] = deque()
        self._maker = LineMaker(settings.line, current_redactor())
        self._in_thread = settings.line.includes_data
        self._wake = threading.Event()
        self._closing = False
        self._lost = 0
        self._path = Path(settings.log_file) if settings.log_file else None
        self._file = self._open()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(self, event: AuditEvent) -> None:
        """See `AuditLog.write`."""
        kind = event.type.value
        wanted = self._settings.event_types
        if kind in self._settings.exclude_event_types or (wanted and kind not in wanted):
            return
        if len(self._queue) >= self._max_queue or self._closing:
            self._lose(1)
            return
        if self._in_thread:
            self._queue.append((time.time(), event))
        else:
            line = self._line(event, time.time())
            if line is None:
                return
            self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """See `AuditLog.close`."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive() and self._path is not None:
            self._file.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closing:
                time.sleep(BATCH_SECONDS)
            self._wake.clear()
            self._drain()
            if self._closing and not self._queue:
                return
            if self._closing:
                self._wake.set()

    def _drain(self) -> None:
        lines: list[bytes] = []
        while self._queue and len(lines) < 1_000:
            found = self._queue.popleft()
            line = found if isinstance(found, bytes) else self._line(found[1], found[0])
            if line is not None:
                lines.append(line)
        if self._queue:
            self._wake.set()
        if not lines:
            return
        try:
            self._reopen_if_moved()
            self._file.write(b"".join(lines))
            self._file.flush()
        except (OSError, ValueError) as error:
            self._lose(len(lines))
            log.error("audit log cannot be written", error=str(error))  # noqa: TRY400
            self._give_up_file()

    def _line(self, event: AuditEvent, at: float) -> bytes | None:
        """Make a line; always from the same thread."""
        redactor = current_redactor()
        if self._maker.redactor is not redactor:
            self._maker = LineMaker(self._settings.line, redactor)
        try:
            return self._maker.line(event, at)
        except Exception as error:  # noqa: BLE001  one odd event must end neither the request nor the audit log
            log.error("audit event cannot be written", error=type(error).__name__)  # noqa: TRY400
            self._lose(1)
            return None

    def _lose(self, count: int) -> None:
        if self._lost == 0:
            log.warning("audit events are being lost")
        self._lost += count
        if self._dropped is not None:
            for _ in range(count):
                self._dropped()

    def _open(self) -> BinaryIO:
        if self._path is None:
            return sys.stdout.buffer
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "ab")

    def _give_up_file(self) -> None:
        """Close a file that could not be written: what its buffer holds counts as lost, and must not come later."""
        if self._path is not None:
            with suppress(OSError, ValueError):
                self._file.close()  # closes it even where it raises, because the buffer cannot be written

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        if self._file.closed:
            self._file = self._open()
            if _ends_within_a_line(self._path):
                self._file.write(b"\n")
            return
        try:
            same = os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            same = False
        if not same:
            self._file.close()
            self._file = self._open()


def _ends_within_a_line(path: Path) -> bool:
    """Whether the last write to a file was cut off, as by a full disk."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # empty, or no file to look into
        return False
