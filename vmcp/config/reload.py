"""A changed file is validated, then swapped in; a bad one is refused, said so, and the old one stays.

The file is looked at once a second by `stat`, not by inotify: a mounted ConfigMap changes by a symlink swap of a
directory above it, network file systems send no events, and one `stat` a second costs nothing. What decides is the
content's digest, so a touched file is no reload.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from api.contract.errors import ConfigErrors
from vmcp.config.load import Loaded, load, read_bounded
from vmcp.config.settings import Settings
from vmcp.observe.metrics import Metrics

log = structlog.get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the file."""
MAX_ERRORS_SHOWN = 20

Apply = Callable[[Settings], Awaitable[None]]
"""Swaps settings in; raises when it cannot, and then leaves everything as it was."""


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """What `/status` says about the configuration.

    Attributes:
        digest: Of the configuration in use.
        loaded_at: Unix seconds of its acceptance.
        generation: Counts accepted configurations of this process, from 1.
        refused: Messages about the file as it is now, when it was refused; empty = the file is what runs.
        places: Where in the file the mistakes are.
        refused_at: Unix seconds of the refusal; None = none.
    """

    digest: str
    loaded_at: float
    generation: int = 1
    refused: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    refused_at: float | None = None

    def as_json(self) -> dict[str, object]:
        """Return the object for `/status`.

        That endpoint asks nobody who they are, so it shows where the mistakes are; what they are stands in the log.
        """
        return {
            "digest": self.digest,
            "loaded_at": self.loaded_at,
            "generation": self.generation,
            "refused": list(self.places),
            "refused_at": self.refused_at,
        }


@dataclass(slots=True)
class Reloader:
    """Watches one file; `run` in a task of its own.

    Attributes:
        path: The file.
        environ: Where secrets are looked up; the process's environment does not change, so neither does this.
        apply: Swaps settings in.
        metrics: Told of every acceptance and refusal.
        status: For `/status`.
        debug: See `load`.
        root: See `load`.
        interval: Seconds between two looks.
    """

    path: Path
    environ: Mapping[str, str] = field(repr=False)
    apply: Apply
    metrics: Metrics
    status: ConfigStatus
    debug: bool = False
    root: str = ""
    interval: float = INTERVAL
    _seen: tuple[int, int, int, int] | None = None
    _nudge: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def nudge(self) -> None:
        """Look at the file now (SIGHUP)."""
        self._seen = None
        self._nudge.set()

    def show(self) -> dict[str, object]:
        """Return the present status for `/status`."""
        return self.status.as_json()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self.interval):
                    await self._nudge.wait()
            except TimeoutError:
                pass
            self._nudge.clear()
            await self.check()

    async def check(self) -> bool:
        """Look once; True = a new configuration runs."""
        async with self._lock:
            signature = self._signature()
            if signature is not None and signature == self._seen:
                return False
            try:
                data = await asyncio.to_thread(read_bounded, self.path)
                # Reading and checking thousands of backends takes a second: not in the event loop.
                loaded = await asyncio.to_thread(load, data, self.environ, debug=self.debug, root=self.root)
            except ConfigErrors as errors:
                self._refuse([(error.path or "document", str(error)) for error in errors.errors])
                self._seen = signature
                return False
            self._seen = signature
            return await self._swap(loaded)

    async def _swap(self, loaded: Loaded) -> bool:
        if loaded.digest == self.status.digest:
            if self.status.refused:
                self.status = ConfigStatus(self.status.digest, self.status.loaded_at, self.status.generation)
                self.metrics.reloaded(accepted=True)
            return False
        try:
            await self.apply(loaded.settings)
        except Exception as error:
            log.exception("configuration cannot be swapped in", digest=loaded.digest)
            self._refuse([("document", f"cannot be swapped in: {type(error).__name__}: {error}")])
            return False
        self.status = ConfigStatus(loaded.digest, time.time(), self.status.generation + 1)
        self.metrics.reloaded(accepted=True)
        for warning in loaded.settings.warnings:
            log.warning("configuration", warning=warning)
        log.info("configuration reloaded", digest=loaded.digest, backends=len(loaded.settings.backends))
        return True

    def _refuse(self, mistakes: list[tuple[str, str]]) -> None:
        shown = tuple(message for _, message in mistakes[:MAX_ERRORS_SHOWN])
        places = tuple(dict.fromkeys(place for place, _ in mistakes[:MAX_ERRORS_SHOWN]))
        if len(mistakes) > MAX_ERRORS_SHOWN:
            shown = (*shown, f"and {len(mistakes) - MAX_ERRORS_SHOWN} more")
        if shown != self.status.refused:
            log.error("configuration refused, the old one stays", errors=shown)
            self.metrics.reloaded(accepted=False)
        old = self.status
        self.status = ConfigStatus(old.digest, old.loaded_at, old.generation, shown, places, time.time())

    def _signature(self) -> tuple[int, int, int, int] | None:
        """Return what changes when the file does; through symlinks, so a swapped directory counts."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
