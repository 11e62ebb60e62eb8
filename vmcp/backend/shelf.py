"""A backend's catalogue: fetched as a whole or list by list, replaced only by something better."""

from __future__ import annotations

import time
from dataclasses import replace

import structlog

from vmcp.backend.errors import BackendError
from vmcp.backend.handshake import Handshake
from vmcp.backend.interface import Catalogue, Item, Kind
from vmcp.backend.lists import Ask, Listed, fetch
from vmcp.backend.model import Era

log = structlog.get_logger(__name__)

KINDS = tuple(Kind)
FRESH_ANNOUNCED = 600.0
"""Seconds until lists of a backend that tells about changes are fetched again all the same."""
FRESH_SILENT = 60.0
"""The same for one that does not."""


async def fetch_catalogue(
    backend: str,
    era: Era,
    handshake: Handshake,
    ask: Ask,
    *,
    before: Catalogue | None = None,
    kinds: tuple[Kind, ...] = KINDS,
    keep: bool = True,
) -> tuple[Catalogue, float | None, BackendError | None]:
    """Fetch lists and return (catalogue, seconds that it stays fresh, the first failure).

    Args:
        backend: Its name.
        era: Which it speaks.
        handshake: What it announces.
        ask: Sends a request.
        before: What is known; None = nothing.
        kinds: Lists to fetch.
        keep: A list that cannot be fetched stays as it was; False = it becomes empty.
    """
    known = before or Catalogue()
    lists = {kind: known.items(kind) for kind in KINDS}
    ttl: float | None = None
    failure: BackendError | None = None
    for kind in kinds:
        try:
            listed: Listed = await fetch(backend, kind, handshake, ask)
        except BackendError as err:
            failure = failure or err
            log.info("a list could not be fetched", backend=backend, list=kind.value, reason=err.reason)
            if not keep:
                lists[kind] = ()
            continue
        lists[kind] = listed.items
        ttl = listed.ttl if ttl is None else ttl if listed.ttl is None else min(ttl, listed.ttl)
    return _assemble(known, lists, era, handshake, heard=failure is None or known.known), ttl, failure


def _assemble(
    known: Catalogue, lists: dict[Kind, tuple[Item, ...]], era: Era, handshake: Handshake, *, heard: bool
) -> Catalogue:
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
    )
    changed = bool(differences(known, catalogue)) or not known.known
    return catalogue if not changed else _next(catalogue)


def _next(catalogue: Catalogue) -> Catalogue:

    return replace(catalogue, generation=catalogue.generation + 1)


def differences(old: Catalogue, new: Catalogue) -> frozenset[Kind]:
    """Return the lists whose content differs."""
    return frozenset(kind for kind in KINDS if old.items(kind) != new.items(kind))


def fresh_for(handshake: Handshake, ttl: float | None) -> float:
    """Return the seconds after which lists are worth fetching again."""
    if ttl is not None:
        return min(max(ttl, 10.0), FRESH_ANNOUNCED)
    told = all(handshake.announces(name) for name in ("tools", "resources", "prompts") if handshake.offers(name))
    return FRESH_ANNOUNCED if told else FRESH_SILENT


def kinds_of(method: str, handshake: Handshake) -> tuple[Kind, ...]:
    """Return the lists that a list_changed notification concerns; none unless the backend announced it."""
    kinds: tuple[Kind, ...]
    match method:
        case "notifications/tools/list_changed":
            name, kinds = "tools", (Kind.TOOLS,)
        case "notifications/resources/list_changed":
            name, kinds = "resources", (Kind.RESOURCES, Kind.TEMPLATES)
        case "notifications/prompts/list_changed":
            name, kinds = "prompts", (Kind.PROMPTS,)
        case _:
            return ()
    if not handshake.announces(name):
        log.debug("an unannounced list_changed was dropped", list=name)
        return ()
    return kinds
