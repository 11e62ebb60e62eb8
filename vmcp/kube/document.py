"""The gateway's own ConfigMap, followed by name, with the mounted file as the start-up copy and the fallback.

A change is served as soon as the watch tells of it; the kubelet refreshes the file after 60 to 90 seconds. So the file
is usually the older of the two, and what the API server has told before is never taken from the file again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Hashable
from pathlib import Path

import structlog

from api.contract.errors import ConfigError, ConfigErrors
from api.contract.identifiers import CONFIG_KEY, config_map_name
from runtime import Record
from vmcp.config.load import read_bounded
from vmcp.config.reload import PendingError, stamp
from vmcp.kube.identity import Identity
from vmcp.kube.named import CONFIG_MAP, Name, NamedObjects, explain
from vmcp.kube.view import data_of

log = structlog.get_logger(__name__)

REMEMBERED = 64
"""Versions of the ConfigMap that are told from newer ones in the file."""


class Document:
    """The bytes of a gateway's configuration.

    Attributes:
        name: Of the ConfigMap.
    """

    def __init__(self, named: NamedObjects, identity: Identity, path: Path | None) -> None:
        """Take where to look; `path` is the mounted file, None = there is none."""
        self.name: Name = (CONFIG_MAP, config_map_name(identity.name))
        self._named = named
        self._path = path
        self._told: deque[bytes] = deque(maxlen=REMEMBERED)
        self._last: bytes | None = None
        self._said = ""

    def stamp(self) -> Hashable:
        """Return what changes when the document does."""
        state = self._named.state(self.name)
        version = (state.record.meta.uid, state.record.meta.resource_version) if state.record is not None else None
        self._say(explain(state.error) if state.error is not None and not state.known else "")
        return version, None if self._path is None else stamp(self._path), state.error is None

    async def read(self) -> bytes:
        """Return the newest bytes.

        Raises:
            ConfigErrors: What there is holds no configuration.
            PendingError: There is nothing yet.
        """
        state = self._named.state(self.name)
        if state.record is not None:
            told = _configuration(state.record)
            self._note(told)
            if state.error is None:
                return told
        # Not there, or not followed at the moment: a file that says something new is newer.
        if self._path is not None:
            try:
                data = await asyncio.to_thread(read_bounded, self._path)
            except ConfigErrors:
                if self._last is None:
                    raise
            else:
                if self._last is None or _digest(data) not in self._told:
                    return data
        if self._last is None:
            raise PendingError("configuration_pending")
        return self._last

    def _note(self, data: bytes) -> None:
        self._last = data
        digest = _digest(data)
        if digest not in self._told:
            self._told.append(digest)

    def _say(self, problem: str) -> None:
        if problem != self._said:
            self._said = problem
            if problem:
                log.warning(
                    "cannot follow this gateway's ConfigMap, using the mounted file",
                    config_map=self.name[1],
                    reason=problem,
                )
            else:
                log.info("following this gateway's ConfigMap", config_map=self.name[1])


def _configuration(record: Record) -> bytes:
    found = data_of(record).get(CONFIG_KEY)
    if found is None:
        raise ConfigErrors([ConfigError("", f"ConfigMap {record.meta.name} has no key {CONFIG_KEY}")])
    return found


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
