"""Which of a gateway's replicas reports: the one that holds the Lease.

Unlike an operator's leader, who loses the lease goes on serving, and reports again when it has the lease again. So this
uses the runtime's lease and its rules, and neither its thread nor its end of the process.
"""

from __future__ import annotations

import asyncio
import random
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from runtime.election.fence import boottime
from runtime.election.lease import HttpLeaseClient, LeaseLock
from runtime.transport.session import Transport
from runtime.wire.errors import ApiError, TransportError
from runtime.wire.gvk import Key

log = structlog.get_logger(__name__)

DURATION = 15.0
"""Seconds that others wait after the holder's last renewal."""
DEADLINE = 10.0
"""Seconds after its last renewal at which a holder no longer counts as one."""
RETRY = 5.0
"""Seconds between two renewals, or two tries."""
ANSWER = 4.0
"""Seconds to wait for the API server."""


Owner = Callable[[], Awaitable[dict[str, Any]]]
"""Returns the owner reference of a gateway's objects; raises as the client does."""


@dataclass(frozen=True, slots=True)
class _OwnedLease(HttpLeaseClient):
    """A Lease that goes with its gateway.

    The owner is named when the Lease is made and not later: to change it, OwnerReferencesPermissionEnforcement (on in
    OpenShift) asks for the right to delete Leases.
    """

    owner: Owner

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**body["metadata"], "ownerReferences": [await self.owner()]}
        return await HttpLeaseClient.create(self, {**body, "metadata": metadata})


class Leadership:
    """One replica's part in it."""

    def __init__(self, transport: Transport, key: Key, owner: Owner) -> None:
        """Take the connections, the Lease, and whose it is."""
        self._key = key
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        self._lock = LeaseLock(_OwnedLease(transport, key, owner), key, identity, DURATION, boottime)
        self._until = float("-inf")
        self._said: str | None = None
        self._random = random.Random()  # noqa: S311  spreads load

    @property
    def held(self) -> bool:
        """Whether this replica reports."""
        return boottime() < self._until

    async def run(self) -> None:
        """Take the lease when it is free, and keep it, until cancelled; then give it back."""
        try:
            while True:
                self._say(await self._try())
                await asyncio.sleep(RETRY * self._random.uniform(0.9, 1.1))
        finally:
            if self.held:
                await self._release()

    async def _try(self) -> str:
        """Try once. Returns what there is to say, "" = nothing."""
        asked = boottime()  # before the request: others count from when the server had it, which is later
        try:
            async with asyncio.timeout(ANSWER):
                held = await self._lock.try_acquire_or_renew()
        except (ApiError, TransportError, TimeoutError) as error:
            return f"the lease cannot be used: {error or type(error).__name__}"
        self._until = asked + DEADLINE if held else float("-inf")
        return "this replica reports" if held else "another replica reports"

    async def _release(self) -> None:
        self._until = float("-inf")
        try:
            async with asyncio.timeout(ANSWER):
                await self._lock.release()
        except (ApiError, TransportError, TimeoutError) as error:
            log.info("the lease was not released", lease=self._key.name, reason=str(error) or type(error).__name__)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.info("backend reporting", lease=self._key.name, state=text)
