"""Lists of backends that show each caller their own: fetched with the caller's credentials, kept for half a minute."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from vmcp.auth.interface import Principal
from vmcp.backend.errors import BackendError, BackendTimeout, CircuitOpen
from vmcp.backend.interface import Catalogue, Reply, SessionSpec
from vmcp.backend.model import Era
from vmcp.backend.remote import Remote
from vmcp.backend.session import Session, ask_once
from vmcp.backend.settings import HeaderList
from vmcp.backend.shelf import fetch_catalogue

FRESH = 30.0
KEPT = 1024
"""Callers whose lists are remembered; the one that asked least recently goes first."""

_Key = tuple[str, bytes, HeaderList]


@dataclass(slots=True)
class _Entry:
    catalogue: Catalogue | None = None
    fetching: asyncio.Task[Catalogue] | None = None


class PersonalCatalogues:
    """One catalogue per (issuer and subject, token, passthrough headers). Nobody ever sees another's.

    Two tokens of one subject may open different things: what one showed says nothing about the other.
    """

    def __init__(self, backend: Remote) -> None:
        self._backend = backend
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    async def get(self, principal: Principal, headers: HeaderList, timeout: float) -> Catalogue:
        """Return the principal's lists; an old one rather than none when the backend does not answer.

        Raises:
            BackendError: There is none.
        """
        key = (principal.key, hashlib.sha256((principal.token or "").encode()).digest(), headers)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        if entry.catalogue is not None and entry.catalogue.age < FRESH:
            return entry.catalogue
        if entry.fetching is None:
            entry.fetching = asyncio.get_running_loop().create_task(self._fetch(entry, principal, headers, timeout))
            entry.fetching.add_done_callback(lambda task: _ended(entry, task))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(entry.fetching)
        except TimeoutError:
            failure: BackendError = BackendTimeout(self._backend.name, "its lists did not come in time")
        except BackendError as err:
            failure = err
        if entry.catalogue is not None:
            return entry.catalogue
        raise failure

    async def _fetch(self, entry: _Entry, principal: Principal, headers: HeaderList, timeout: float) -> Catalogue:
        backend = self._backend
        if not backend.breaker.admit():
            raise CircuitOpen(backend.name, "the circuit breaker is open", sent=False)
        session = Session(backend, SessionSpec(principal=principal, headers=headers, timeout=timeout))

        async def ask(method: str, params: bytes) -> Reply:
            return await ask_once(session, method, params, timeout, headers=headers)

        try:
            handshake = await session.handshake(asyncio.get_running_loop().time() + timeout)
            era = backend.state.era or Era.LEGACY
            before = entry.catalogue or Catalogue()
            catalogue, failure = await fetch_catalogue(
                backend.name, era, handshake, ask, before=before, own=backend.settings.gateway
            )
            if failure is not None and not catalogue.known:
                raise failure
        except BackendError as err:
            backend.health.failed(err)
            raise
        except BaseException:
            backend.health.released()
            raise
        finally:
            await session.close()
        backend.health.answered()
        entry.catalogue = catalogue
        return catalogue

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [entry.fetching for entry in self._entries.values() if entry.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()


def _ended(entry: _Entry, task: asyncio.Task[Catalogue]) -> None:
    entry.fetching = None
    if not task.cancelled():
        task.exception()
