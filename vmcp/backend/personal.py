"""Lists of backends that show each caller their own: fetched with the caller's credentials, kept for half a minute."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from vmcp.auth.interface import Principal
from vmcp.backend.errors import BackendError, BackendTimeout
from vmcp.backend.interface import Catalogue, Reply, SessionSpec
from vmcp.backend.model import Era
from vmcp.backend.remote import Remote
from vmcp.backend.session import Session, ask_once
from vmcp.backend.settings import HeaderList
from vmcp.backend.shelf import fetch_catalogue
from vmcp.tasks import SingleFlight, loop_time

FRESH = 30.0
KEPT = 1024
"""Callers whose lists are remembered; the one that asked least recently goes first."""

_Key = tuple[str, bytes, HeaderList]


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A caller's lists.

    Attributes:
        catalogue: The lists.
        changes: How many changes had been heard when they were asked for.
    """

    catalogue: Catalogue
    changes: int


class PersonalCatalogues:
    """One catalogue per (issuer and subject, token, passthrough headers). Nobody ever sees another's.

    Two tokens of one subject may open different things: what one showed says nothing about the other. When a session of
    a caller hears that a list changed, what was asked for before that is no longer fresh for this caller.
    """

    def __init__(self, backend: Remote) -> None:
        self._backend = backend
        self._known: OrderedDict[_Key, _Fetched] = OrderedDict()
        self._changes = 0
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._fetching = SingleFlight[tuple[_Key, int], Catalogue](
            f"{backend.name}: personal lists", expected=(BackendError,)
        )

    def changed(self, principal: Principal) -> None:
        """A session of this caller heard that a list changed."""
        self._changes += 1
        self._changed[principal.key] = self._changes
        self._changed.move_to_end(principal.key)
        if len(self._changed) > KEPT:
            self._changed.popitem(last=False)

    async def get(self, principal: Principal, headers: HeaderList, timeout: float) -> Catalogue:
        """Return the principal's lists; an old one rather than none when the backend does not answer.

        Raises:
            BackendError: There is none.
        """
        key = (principal.key, hashlib.sha256((principal.token or "").encode()).digest(), headers)
        known, changed = self._known.get(key), self._changed.get(principal.key, 0)
        if known is not None:
            self._known.move_to_end(key)
            if known.catalogue.age < FRESH and known.changes >= changed:
                return known.catalogue
        try:
            # What was asked for before a change is not waited for after it.
            return await self._fetching.wait(
                (key, changed), lambda: self._fetch(key, principal, headers, timeout), deadline=loop_time() + timeout
            )
        except TimeoutError:
            failure: BackendError = BackendTimeout(self._backend.name, "its lists did not arrive in time")
        except BackendError as err:
            failure = err
        if known is not None:
            return known.catalogue
        raise failure

    async def _fetch(self, key: _Key, principal: Principal, headers: HeaderList, timeout: float) -> Catalogue:
        backend = self._backend
        spec = SessionSpec(principal=principal, headers=headers, timeout=timeout)
        changes = self._changes
        with backend.attempt():
            session = Session(backend, spec, on_notification=_drop)
            try:
                catalogue = await self._ask(session, key, headers, timeout)
            finally:
                await session.close()
        newest = self._known.get(key)
        if newest is None or newest.changes <= changes:
            self._known[key] = _Fetched(catalogue, changes)
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return catalogue

    async def _ask(self, session: Session, key: _Key, headers: HeaderList, timeout: float) -> Catalogue:
        """Return the lists that a session shows; one that cannot be fetched stays as it was.

        Raises:
            BackendError: There is none.
        """
        backend = self._backend

        async def ask(method: str, params: bytes) -> Reply:
            return await ask_once(session, method, params, timeout, headers=headers)

        handshake = await session.handshake(loop_time() + timeout)
        era = backend.state.era or Era.LEGACY
        known = self._known.get(key)
        before = Catalogue() if known is None else known.catalogue
        catalogue, failure = await fetch_catalogue(
            backend.name, era, handshake, ask, before=before, own=backend.settings.gateway
        )
        if failure is not None and not catalogue.known:
            raise failure
        return catalogue

    async def close(self) -> None:
        """Give up what is under way."""
        await self._fetching.close()
        self._known.clear()


def _drop(method: str, params: bytes) -> None:
    """Hear what a backend says while it is asked for lists: they are as new as that."""
