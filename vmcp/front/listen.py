"""`subscriptions/listen`: the one stream on which a modern client hears what happens outside its calls.

First the acknowledgement with what will be told, then notifications, each with the id of the listen request, and a
result when the gateway ends the stream. Nothing is replayed: who reconnects lists again.

Resource subscriptions are made at their backends in sessions that belong to this stream, so they end with it and nobody
else hears of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.backend.interface import LIST_KINDS, Kind, Provider, RpcFault, SessionSpec
from vmcp.core.gateway import Gateway
from vmcp.core.offers import Watcher
from vmcp.core.sessions import BackendSessions
from vmcp.core.types import Caller
from vmcp.front.exchange import SseWriter
from vmcp.wire.jsonrpc import RequestId, RpcError, dumps, fields, join, loads_str, notification, response
from vmcp.wire.protocol import ACKNOWLEDGED, META_SUBSCRIPTION, METHOD_NOT_FOUND, RESOURCE_UPDATED
from vmcp.wire.sse import encode

MAX_URIS: Final = 256
"""Resource subscriptions of one stream; more are not honoured."""
MAX_PENDING: Final = 64 * 1024
"""Bytes that wait until a stream is acknowledged, for which backends may take a while; more is dropped."""


class Filter(msgspec.Struct, omit_defaults=True):
    """What a client wants to hear, and what it will hear."""

    toolsListChanged: bool = False  # noqa: N815  the wire's names
    promptsListChanged: bool = False  # noqa: N815
    resourcesListChanged: bool = False  # noqa: N815
    resourceSubscriptions: list[str] = []  # noqa: N815  msgspec copies defaults

    def kinds(self) -> frozenset[Kind]:
        """Return the lists whose changes are told."""
        return frozenset(kind for kind, spec in LIST_KINDS.items() if getattr(self, spec.filter))


class _Params(msgspec.Struct):
    notifications: Filter | UnsetType = UNSET


_params = msgspec.json.Decoder(_Params)


def read_filter(params: bytes) -> Filter | None:
    """Return what is wanted; None when the params say nothing usable."""
    try:
        found = _params.decode(params).notifications
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return None if found is UNSET else found


class ListenStream:
    """One open stream.

    Attributes:
        over: Done when the stream shall end.
    """

    def __init__(self, gateway: Gateway, caller: Caller, request_id: RequestId, wanted: Filter) -> None:
        self._gateway = gateway
        self._id = request_id
        self._meta = b'"_meta":{%b:%b}' % (dumps(META_SUBSCRIPTION), dumps(request_id))
        self._wanted = wanted
        self._uris: frozenset[str] = frozenset()
        self._writer: SseWriter | None = None
        self._pending: list[bytes] = []
        self._room = MAX_PENDING
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        spec = SessionSpec(
            principal=caller.principal,
            client_capabilities=caller.capabilities,
            client_info=caller.info,
            headers=caller.headers,
            events=self,
            era=caller.era,
        )
        self._sessions = BackendSessions(spec)
        self._caller = Caller(
            principal=caller.principal,
            era=caller.era,
            sessions=self._sessions,
            capabilities=caller.capabilities,
            info=caller.info,
            headers=caller.headers,
            trace=caller.trace,
        )
        self._watcher = Watcher(caller.principal, wanted.kinds(), self._changed)

    async def start(self, writer: SseWriter) -> None:
        """Subscribe, acknowledge, and go on with what happened meanwhile."""
        self._gateway.offers.watch(self._watcher)
        honoured = await self._subscribe()
        self._uris = frozenset(honoured)
        wanted = self._wanted
        granted = Filter(wanted.toolsListChanged, wanted.promptsListChanged, wanted.resourcesListChanged, honoured)
        writer.write(encode(notification(ACKNOWLEDGED, b'{"notifications":%b,%b}' % (dumps(granted), self._meta))))
        self._writer = writer
        for frame in self._pending:
            writer.write(frame, droppable=True)
        self._pending.clear()

    def result(self) -> bytes:
        """Return the last frame of a stream that ends in good order."""
        return encode(response(self._id, b'{"resultType":"complete",%b}' % self._meta))

    async def close(self) -> None:
        """End the subscriptions."""
        self._gateway.offers.unwatch(self._watcher)
        await self._sessions.close()

    def end(self) -> None:
        """Let the stream end in good order."""
        if not self.over.done():
            self.over.set_result(None)

    def kept(self, keep: Callable[[Provider], bool]) -> bool:
        """Say whether every backend of a subscription is still there."""
        return all(keep(backend) for backend, _ in self._sessions.live())

    # --- what backends say ---

    def notification(self, backend: str, method: str, params: bytes) -> None:  # noqa: ARG002  URIs are unique
        """Take a notification of a subscription's session."""
        if method != RESOURCE_UPDATED:
            return
        uri = loads_str(fields(params).get("uri"))
        if uri is not None and self._covers(uri) and self._gateway.may_read(self._caller.principal, uri):
            self._tell(method, params)

    async def request(self, backend: str, method: str, params: bytes) -> bytes:  # noqa: ARG002
        """A modern client cannot be asked outside of a call."""
        raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client cannot be asked for {method} here"))

    def _covers(self, uri: str) -> bool:
        """A subscription covers its resource and, as the specification allows, what lies below it."""
        uris = self._uris or frozenset(self._wanted.resourceSubscriptions)
        return uri in uris or any(uri.startswith(parent.rstrip("/") + "/") for parent in uris)

    def _changed(self, kinds: frozenset[Kind]) -> None:
        for method in sorted({LIST_KINDS[kind].changed for kind in kinds}):
            self._tell(method, b"{}")

    def _tell(self, method: str, params: bytes) -> None:
        members = fields(params)
        meta = fields(members.get("_meta"))
        meta[META_SUBSCRIPTION] = Raw(dumps(self._id))
        members["_meta"] = Raw(join(meta))
        frame = encode(notification(method, join(members)))
        if self._writer is not None:
            self._writer.write(frame, droppable=True)
        elif len(frame) <= self._room:
            self._room -= len(frame)
            self._pending.append(frame)

    async def _subscribe(self) -> list[str]:
        uris = list(dict.fromkeys(self._wanted.resourceSubscriptions))[:MAX_URIS]
        outcomes = await asyncio.gather(*(self._gateway.subscribe(self._caller, uri) for uri in uris))
        return [uri for uri, outcome in zip(uris, outcomes, strict=True) if outcome.error is None]
