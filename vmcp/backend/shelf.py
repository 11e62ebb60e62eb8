"""A backend's catalogue: fetched as a whole or list by list, replaced only by something better."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from vmcp.backend.errors import BackendError
from vmcp.backend.interface import Catalogue, Kind
from vmcp.backend.lists import Ask, FetchedList, fetch
from vmcp.backend.model import LIST_KINDS, Era, Handshake

log = structlog.get_logger(__name__)

KINDS = tuple(Kind)
GRACE = 1.0
"""Seconds after which the lists that are there are shown without those that are not."""
FRESH_ANNOUNCED = 600.0
"""Seconds until lists of a backend that tells about changes are fetched again all the same."""
FRESH_SILENT = 60.0
"""The same for one that does not."""


Fetched = Mapping[Kind, FetchedList | BackendError]
"""What came of each list that was asked for."""


async def fetch_lists(
    backend: str,
    handshake: Handshake,
    ask: Ask,
    *,
    before: Catalogue,
    kinds: tuple[Kind, ...] = KINDS,
    own: str = "",
    meanwhile: Callable[[Fetched], None] | None = None,
) -> Fetched:
    """Fetch lists, each by itself: one that fails or is slow costs no other.

    Args:
        backend: Its name.
        handshake: What it announces.
        ask: Sends a request.
        before: What is known.
        kinds: Lists to fetch.
        own: Mark of the gateway that asks.
        meanwhile: Told once what is there after a second, when some list is not.
    """
    loop = asyncio.get_running_loop()
    tasks = {
        kind: loop.create_task(
            fetch(backend, kind, handshake, ask, known=before.items(kind), own=own), name=f"{kind} of {backend}"
        )
        for kind in kinds
    }
    try:
        _, pending = await asyncio.wait(tasks.values(), timeout=GRACE)
        if pending:
            if meanwhile is not None and len(pending) < len(tasks):
                meanwhile({kind: _result(task) for kind, task in tasks.items() if task.done()})
            await asyncio.wait(pending)
    except asyncio.CancelledError:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        raise
    return {kind: _result(task) for kind, task in tasks.items()}


def _result(task: asyncio.Task[FetchedList]) -> FetchedList | BackendError:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, BackendError):
        return error
    raise error


async def fetch_catalogue(
    backend: str, era: Era, handshake: Handshake, ask: Ask, *, before: Catalogue, own: str
) -> tuple[Catalogue, BackendError | None]:
    """Fetch all lists; return the catalogue and the first failure. A list that cannot be fetched stays as it was."""
    fetched = await fetch_lists(backend, handshake, ask, before=before, own=own)
    failure = next((found for found in fetched.values() if isinstance(found, BackendError)), None)
    return assemble(before, fetched, era, handshake), failure


def assemble(known: Catalogue, fetched: Fetched, era: Era, handshake: Handshake, *, keep: bool = True) -> Catalogue:
    """Return the catalogue that holds what was fetched beside what was known.

    Args:
        known: What was there before.
        fetched: What came of the lists that were asked for.
        era: Which the backend speaks.
        handshake: What it announces.
        keep: A list that could not be fetched stays as it was; False = it becomes empty.
    """
    lists = {kind: known.items(kind) for kind in KINDS}
    for kind, found in fetched.items():
        if isinstance(found, FetchedList):
            lists[kind] = found.items
        elif not keep:
            lists[kind] = ()
    heard = any(isinstance(found, FetchedList) for found in fetched.values())
    catalogue = Catalogue(
        tools=lists[Kind.TOOLS],
        resources=lists[Kind.RESOURCES],
        templates=lists[Kind.TEMPLATES],
        prompts=lists[Kind.PROMPTS],
        capabilities=handshake.raw_capabilities,
        server_info=handshake.server_info,
        instructions=handshake.instructions,
        era=era,
        version=handshake.version,
        fetched_at=time.monotonic() if heard else known.fetched_at,
        generation=known.generation,
        gateway=next((found.gateway for found in fetched.values() if isinstance(found, FetchedList)), known.gateway),
    )
    changed = bool(differences(known, catalogue)) or not known.known
    return catalogue if not changed else _next(catalogue)


def _next(catalogue: Catalogue) -> Catalogue:

    return replace(catalogue, generation=catalogue.generation + 1)


def differences(old: Catalogue, new: Catalogue) -> frozenset[Kind]:
    """Return the lists whose content differs."""
    return frozenset(kind for kind in KINDS if old.items(kind) != new.items(kind))


def fresh_for(handshake: Handshake, ttl: float | None, *, pushed: bool) -> float:
    """Return seconds after which lists are worth fetching again; `pushed`: the backend can tell of changes itself."""
    if ttl is not None:
        return min(max(ttl, 10.0), FRESH_ANNOUNCED)
    told = all(handshake.announces(name) for name in ("tools", "resources", "prompts") if handshake.offers(name))
    return FRESH_ANNOUNCED if told and pushed else FRESH_SILENT


def kinds_of(method: str, handshake: Handshake) -> tuple[Kind, ...]:
    """Return the lists that a list_changed notification concerns; none unless the backend announced it."""
    kinds = tuple(kind for kind, spec in LIST_KINDS.items() if spec.changed == method)
    if kinds and not handshake.announces(LIST_KINDS[kinds[0]].capability):
        log.debug("an unannounced list_changed was dropped", list=kinds[0].value)
        return ()
    return kinds
