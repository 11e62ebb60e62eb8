"""Fetches a backend's lists: all pages, every item's own bytes, and an end to what has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog
from msgspec import Raw

from vmcp.backend.errors import BackendProtocolError
from vmcp.backend.handshake import Handshake
from vmcp.backend.interface import Item, Kind, Reply
from vmcp.backend.model import Era
from vmcp.backend.modern.discover import ttl_of
from vmcp.backend.modern.mirrored import InvalidMirrorError, mirror_of
from vmcp.wire.jsonrpc import dumps, fields, loads_str
from vmcp.wire.protocol import METHOD_NOT_FOUND, PROMPTS_LIST, RESOURCES_LIST, TEMPLATES_LIST, TOOLS_LIST

log = structlog.get_logger(__name__)

MAX_PAGES = 1000
MAX_ITEMS = 50_000
MAX_BYTES = 64 * 1024 * 1024
"""Of one list, over all pages. What is larger is refused, not cut: half a list would look like a removal."""


@dataclass(frozen=True, slots=True)
class _List:
    method: str
    member: str
    key: str
    capability: str


LISTS: dict[Kind, _List] = {
    Kind.TOOLS: _List(TOOLS_LIST, "tools", "name", "tools"),
    Kind.RESOURCES: _List(RESOURCES_LIST, "resources", "uri", "resources"),
    Kind.TEMPLATES: _List(TEMPLATES_LIST, "resourceTemplates", "uriTemplate", "resources"),
    Kind.PROMPTS: _List(PROMPTS_LIST, "prompts", "name", "prompts"),
}

Ask = Callable[[str, bytes], Awaitable[Reply]]
"""(method, params) -> reply."""


class _Keys(msgspec.Struct):
    name: str | None = None
    uri: str | None = None
    uriTemplate: str | None = None  # noqa: N815  the protocol's name


_items = msgspec.json.Decoder(list[Raw])
_keys = msgspec.json.Decoder(_Keys)


@dataclass(frozen=True, slots=True)
class Listed:
    """One list.

    Attributes:
        items: In the backend's order, keys unique.
        ttl: Seconds that they stay fresh, the least of all pages; None = not said.
    """

    items: tuple[Item, ...]
    ttl: float | None


async def fetch(backend: str, kind: Kind, handshake: Handshake, ask: Ask) -> Listed:
    """Return one list, empty when the backend does not announce it.

    Args:
        backend: Its name.
        kind: Which.
        handshake: What the backend announced.
        ask: Sends a request.

    Raises:
        BackendError: No answer, a refusal, an answer that is no list, or one without end.
    """
    spec = LISTS[kind]
    if not handshake.offers(spec.capability):
        return Listed((), None)
    found: dict[str, Item] = {}
    seen: set[str] = set()
    size = 0
    ttl: float | None = None
    params = b"{}"
    for _ in range(MAX_PAGES):
        reply = await ask(spec.method, params)
        if reply.error is not None:
            if reply.error.code == METHOD_NOT_FOUND:
                return Listed((), ttl)
            raise BackendProtocolError(
                backend, f"refused {spec.method} (error {reply.error.code})", status=reply.status
            )
        result = fields(reply.result)
        size += len(reply.result or b"")
        ttl = _least(ttl, ttl_of(result))
        _add(backend, kind, spec, result.get(spec.member), found, era=reply.era)
        if size > MAX_BYTES or len(found) > MAX_ITEMS:
            raise BackendProtocolError(backend, f"the answer to {spec.method} is too large", status=reply.status)
        cursor = loads_str(result.get("nextCursor"))
        if cursor is None:
            return Listed(tuple(found.values()), ttl)
        if cursor in seen:
            raise BackendProtocolError(backend, f"{spec.method} repeats a cursor: the list has no end")
        seen.add(cursor)
        params = dumps({"cursor": cursor})
    raise BackendProtocolError(backend, f"{spec.method} has more than {MAX_PAGES} pages")


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _add(backend: str, kind: Kind, spec: _List, raw: Raw | None, found: dict[str, Item], *, era: Era) -> None:
    try:
        items = _items.decode(raw if raw is not None else b"null")
    except (msgspec.DecodeError, RecursionError) as err:
        raise BackendProtocolError(backend, f"the answer to {spec.method} holds no list {spec.member!r}") from err
    for item in items:
        own = bytes(item)
        key = _key(own, spec.key)
        if key is None or key in found:
            log.info("an entry without a name of its own was skipped", backend=backend, list=spec.member, name=key)
            continue
        if kind is Kind.TOOLS and era is Era.MODERN and not _mirrorable(backend, key, own):
            continue
        found[key] = Item(key, own)


def _key(raw: bytes, name: str) -> str | None:
    try:
        key: str | None = getattr(_keys.decode(raw), name)
    except (msgspec.DecodeError, RecursionError):
        return None
    return key


def _mirrorable(backend: str, name: str, raw: bytes) -> bool:
    """The specification wants tools with invalid annotations dropped, one by one."""
    try:
        mirror_of(raw)
    except InvalidMirrorError as err:
        log.warning("a tool was dropped", backend=backend, tool=name, reason=str(err))
        return False
    return True
