"""A changed configuration is validated, then swapped in; a bad one is refused, said so, and the old one stays.

Where it comes from is a `ConfigSource`: a file, or what the API server says (`vmcp.kube`). A file is looked at once a
second by `stat`, not by inotify: a mounted ConfigMap changes by a symlink swap of a directory above it, network file
systems send no events, and one `stat` a second costs nothing. What decides is the content's digest, so a touched file
is no reload.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import structlog

from api.contract.errors import ConfigErrors
from vmcp.config.load import Loaded, Read, load, read_bounded
from vmcp.config.settings import LeftOut, Settings
from vmcp.observe.metrics import Metrics

log = structlog.get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the source."""
REST = 2.0
"""How many times as long as a load computed to wait before the next: a burst of changes leaves time for calls."""
LONGEST_REST = 1.0
"""Seconds."""
MAX_ERRORS_SHOWN = 20

Stamp = tuple[int, int, int, int] | None

Apply = Callable[[Settings], Awaitable[frozenset[str]]]
"""Swaps settings in; returns which backends go on as they stood (`LeftOut.missing`). Raises when it cannot, and then
leaves everything as it was."""


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """What `/status` says about the configuration.

    Attributes:
        digest: Of the configuration in use.
        loaded_at: Unix seconds of its acceptance.
        generation: Counts accepted configurations of this process, from 1.
        refused: Messages about the newest configuration, when it was refused; empty = it is what runs.
        places: Where in it the mistakes are.
        refused_at: Unix seconds of the refusal; None = none.
        left_out: Backends of the configuration in use that cannot be served as it says.
        standing: Those of them that are served as an earlier configuration said.
    """

    digest: str
    loaded_at: float
    generation: int = 1
    refused: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    refused_at: float | None = None
    left_out: tuple[LeftOut, ...] = ()
    standing: frozenset[str] = frozenset()

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
            "left_out": [_places(one) for one in self.left_out if one.name not in self.standing],
            "standing": [_places(one) for one in self.left_out if one.name in self.standing],
        }


def _places(one: LeftOut) -> dict[str, object]:
    shown: dict[str, object] = {
        "backend": one.name,
        "places": list(dict.fromkeys(error.path for error in one.errors)),
    }
    return shown | ({"reason": one.reason} if one.reason else {})


class PendingError(Exception):
    """A source cannot say anything yet; the text is one word for `/readyz`, such as `api_server_pending`."""


class ConfigSource(Protocol):
    """Where configurations come from."""

    def stamp(self) -> Hashable | None:
        """Return what changes when the configuration does; None while nothing can be said."""

    async def load(self) -> Loaded:
        """Return the newest configuration.

        Raises:
            ConfigErrors: It cannot be used.
            PendingError: There is none yet.
        """


class FileSource:
    """A file, with secrets from the environment, which does not change while the process lives."""

    def __init__(
        self, path: Path, environ: Mapping[str, str], *, debug: bool = False, root: str = "", read: Read = load
    ) -> None:
        """Take the file's path, and what reads the document in it; the rest is as `load` takes it."""
        self._read = read
        self._path = path
        self._environ = environ
        self._debug = debug
        self._root = root
        self._awaited: tuple[Path, ...] = ()

    def stamp(self) -> Hashable | None:
        """Return what changes when the file does, or one that a backend waits for; None while there is no file."""
        own = stamp(self._path)
        return None if own is None else (own, *(stamp(path) for path in self._awaited))

    async def load(self) -> Loaded:
        """Read the file."""
        data = await asyncio.to_thread(read_bounded, self._path)
        # Reading and checking thousands of backends takes a second: not in the event loop.
        loaded = await asyncio.to_thread(self._read, data, self._environ, debug=self._debug, root=self._root)
        # Files that were not watched before may have come since they were looked for: the stamp is another one now.
        self._awaited = loaded.awaited
        return loaded


@dataclass(slots=True)
class Reloader:
    """Follows one source; `run` in a task of its own.

    Attributes:
        source: Where configurations come from.
        apply: Swaps settings in.
        metrics: Told of every acceptance and refusal.
        status: For `/status`.
        current: What runs; None = not known, only the digest.
        interval: Seconds between two looks.
        pending: Why the source has not said anything yet; "" once it has.
    """

    source: ConfigSource
    apply: Apply
    metrics: Metrics
    status: ConfigStatus
    current: Settings | None = field(default=None, repr=False)
    interval: float = INTERVAL
    pending: str = ""
    _seen: Hashable | None = None
    _took: float = 0.0
    _nudge: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def nudge(self) -> None:
        """Look at the source now, whether it has changed or not (SIGHUP)."""
        self._seen = None
        self._nudge.set()

    def changed(self) -> None:
        """Look at the source soon: it has changed."""
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
            await asyncio.sleep(min(self._took * REST, LONGEST_REST))

    async def check(self) -> bool:
        """Look once; True = a new configuration runs."""
        async with self._lock:
            stamp = self.source.stamp()
            self._took = 0.0
            if stamp is not None and stamp == self._seen:
                return False
            # Processor time: a machine that is busy with others is no reason to rest.
            before = time.process_time()
            try:
                loaded = await self.source.load()
            except PendingError as error:
                self.pending = str(error) if self.pending else ""
                return False
            except ConfigErrors as errors:
                self._refuse([(error.path or "document", str(error)) for error in errors.errors])
                self._seen = stamp
                return False
            except Exception as error:
                # A mistake of ours: it must not end the watching, and the next change may be without it.
                log.exception("configuration cannot be built")
                self._refuse([("document", f"cannot be built: {type(error).__name__}")])
                self._seen = stamp
                return False
            finally:
                self._took = time.process_time() - before
            self._seen = stamp
            swapped = await self._swap(loaded)
            if not self.status.refused:
                self.pending = ""
            return swapped

    async def _swap(self, loaded: Loaded) -> bool:
        left_out = loaded.settings.left_out
        same = loaded.digest == self.status.digest and left_out == self.status.left_out
        # The values of Secrets are in no digest.
        if same and self.current in (None, loaded.settings):
            if self.status.refused:
                self.status = replace(self.status, refused=(), places=(), refused_at=None)
                self.metrics.reloaded(accepted=True)
            return False
        try:
            standing = await self.apply(loaded.settings)
        except Exception as error:
            log.exception("configuration cannot be applied", digest=loaded.digest)
            self._refuse([("document", f"cannot be applied: {type(error).__name__}: {error}")])
            return False
        self.current = loaded.settings
        generation = self.status.generation + 1
        self.status = ConfigStatus(loaded.digest, time.time(), generation, left_out=left_out, standing=standing)
        self.metrics.reloaded(accepted=True)
        report_left_out(loaded.settings, self.metrics, standing)
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
            log.error("configuration refused, keeping the previous one", errors=shown)
            self.metrics.reloaded(accepted=False)
        old = self.status
        self.status = replace(old, refused=shown, places=places, refused_at=time.time())


def report_left_out(settings: Settings, metrics: Metrics, standing: frozenset[str] = frozenset()) -> None:
    """Say which backends of an accepted configuration cannot be served as it says, and why.

    Args:
        settings: The configuration.
        metrics: Told of them.
        standing: Those that are served as an earlier configuration said.
    """
    metrics.left_out((one.name for one in settings.left_out if one.name not in standing), standing)
    for one in settings.left_out:
        event = "backend keeps its previous configuration" if one.name in standing else "backend left out"
        log.warning(event, backend=one.name, reasons=[str(error) for error in one.errors])


def stamp(path: Path) -> Stamp:
    """Return what changes when a file does; through symlinks, so a swapped directory counts."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
