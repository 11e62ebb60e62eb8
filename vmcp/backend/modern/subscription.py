"""`subscriptions/listen`: the push channel of modern backends, opened again with back-off whenever it ends.

Nothing is replayed, so after every gap the owner is told to look again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from msgspec import UNSET, Raw

from vmcp.auth.interface import Principal
from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.endpoint import POST_HEADERS, McpEndpoint
from vmcp.backend.errors import BackendError
from vmcp.backend.interface import Call
from vmcp.backend.meta import modern_params
from vmcp.backend.modern.calls import ModernCaller
from vmcp.backend.settings import HeaderList
from vmcp.backend.streams import OPEN_TIMEOUT, MessageStream
from vmcp.http.client import LATER, Response
from vmcp.tasks import Background, loop_time
from vmcp.wire import jsonrpc
from vmcp.wire.jsonrpc import Message, dumps, fields
from vmcp.wire.protocol import ACKNOWLEDGED, H_METHOD, H_VERSION, LISTEN, META_SUBSCRIPTION, MODERN

log = structlog.get_logger(__name__)

_HEADERS: HeaderList = (*POST_HEADERS, (H_VERSION, MODERN), (H_METHOD, LISTEN))

STEADY = 30.0
"""Seconds after which a subscription that ends begins again without a growing wait: every gap costs a look at lists."""


class BackendSubscription:
    """One subscription, kept alive until it is closed.

    Attributes:
        honoured: Raw members of what the backend acknowledged; empty before that, and when it offers nothing.
    """

    def __init__(
        self,
        endpoint: McpEndpoint,
        caller: ModernCaller,
        wanted: dict[str, Any],
        *,
        on_notification: Callable[[str, bytes], None],
        on_gap: Callable[[], None] | None = None,
        principal: Principal | None,
        passthrough: HeaderList = (),
        max_event: int,
    ) -> None:
        self._endpoint = endpoint
        self._caller = caller
        self._wanted = wanted
        self._on_notification = on_notification
        self._on_gap = on_gap
        self._principal = principal
        self._passthrough = passthrough
        self._max_event = max_event
        self._backoff = RetryBackoff()
        self._answered = asyncio.Event()
        self._since: float | None = None
        self._tasks = Background(endpoint.name)
        self.honoured: dict[str, Raw] = {}

    def start(self) -> None:
        """Begin, in the background."""
        self._tasks.spawn(self._run(), "subscription")

    async def acknowledged(self, deadline: float) -> dict[str, Raw]:
        """Wait for the backend's word on what it honours; {} when it gives none in time."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._answered.wait()
        except TimeoutError:
            return {}
        return self.honoured

    async def _run(self) -> None:
        first = True
        try:
            while True:
                try:
                    if not await self._once(gap=not first):
                        return
                except BackendError as err:
                    log.debug("a subscription broke", backend=self._endpoint.name, category=err.category)
                first = False
                if self._since is not None and loop_time() - self._since >= STEADY:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next())
        finally:
            self._answered.set()

    async def _once(self, *, gap: bool) -> bool:
        """Listen once, to the end of the stream; return whether to come back."""
        self._since = None
        call = Call(method=LISTEN, params=dumps({"notifications": self._wanted}), headers=self._passthrough)
        response = await self._caller.send(
            jsonrpc.request("listen", LISTEN, modern_params(call)),
            _HEADERS,
            call=call,
            deadline=loop_time() + OPEN_TIMEOUT,
            principal=self._principal,
            long_lived=True,
        )
        if response.stream is None:
            return self._comes_back(response)
        stream = MessageStream(self._endpoint, response.stream, max_event=self._max_event)
        try:
            while (message := await stream.message()) is not None:
                if message.is_response:
                    return message.result is not UNSET
                self._take(message, gap=gap)
        finally:
            stream.close()
        return True

    @staticmethod
    def _comes_back(response: Response) -> bool:
        return response.status >= 500 or response.status in LATER

    def _take(self, message: Message, *, gap: bool) -> None:
        if not message.is_notification or not isinstance(message.method, str):
            return
        params = fields(None if message.params is UNSET else bytes(message.params))
        if message.method == ACKNOWLEDGED:
            self._since = loop_time()
            self.honoured = fields(params.get("notifications"))
            self._answered.set()
            if gap and self._on_gap is not None:
                self._on_gap()
            return
        meta = fields(params.pop("_meta", None))
        meta.pop(META_SUBSCRIPTION, None)
        if meta:
            params["_meta"] = Raw(jsonrpc.join(meta))
        self._on_notification(message.method, jsonrpc.join(params))

    async def close(self) -> None:
        """End the subscription: closing the stream tells the backend."""
        await self._tasks.close()
