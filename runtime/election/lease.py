"""The Lease object and the rules of taking, renewing and releasing it (client-go's, so that both can share a lease).

Whether somebody else's lease has expired is judged by when we last saw it change on our own clock, never by comparing
the times in it: clocks of two machines differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import orjson

from runtime.util.times import micro_time
from runtime.wire.errors import ConflictError, NotFoundError, TransportError
from runtime.wire.gvk import Key, Resource

LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases")


class LeaseClient(Protocol):
    """Reads and writes one Lease, live."""

    async def get(self) -> dict[str, Any]:
        """Raises NotFoundError when there is none."""

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises AlreadyExistsError when somebody was first."""

    async def update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ConflictError when it changed since it was read."""


class LeaseTransport(Protocol):
    """The part of `runtime.transport.Transport` that is needed."""

    async def request(self, method: str, path: str, *, body: bytes | None = None, retry: bool = True) -> Any:
        """See there."""


@dataclass(frozen=True, slots=True)
class HttpLeaseClient:
    """A LeaseClient over a transport. One try each: the elector decides about the next.

    An answer that is no Lease (a proxy's page) is a TransportError like one that did not come.
    """

    transport: LeaseTransport
    key: Key

    async def get(self) -> dict[str, Any]:
        """Read the lease."""
        return await self._send("GET", LEASE.object_path(self.key))

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make the lease."""
        return await self._send("POST", LEASE.collection_path(self.key.namespace), body)

    async def update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the lease; `body` holds the resourceVersion that was read."""
        return await self._send("PUT", LEASE.object_path(self.key), body)

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else orjson.dumps(body)
        answer = await self.transport.request(method, path, body=data, retry=False)
        try:
            parsed = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict) or not isinstance(parsed.get("spec"), dict | None):
            raise TransportError(f"the answer to {method} is not a Lease")
        return parsed


@dataclass(frozen=True, slots=True)
class _Observed:
    body: dict[str, Any]
    at: float

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.body.get("spec") or {}
        return spec

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity") or "")

    @property
    def expires(self) -> float:
        return self.at + float(self.spec.get("leaseDurationSeconds") or 0)


class LeaseLock:
    """One candidate's view of one Lease.

    Args:
        client: Access to the lease.
        key: Its name.
        identity: Who we are.
        duration: Seconds that others wait after our last renewal; written as whole seconds, rounded up.
        clock: Seconds of a clock that never stands still (`boottime`).
        slow_path: Called when a renewal could not use the cached record.
    """

    def __init__(
        self,
        client: LeaseClient,
        key: Key,
        identity: str,
        duration: float,
        clock: Callable[[], float],
        slow_path: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._key = key
        self._identity = identity
        self._duration = ceil(duration)
        self._clock = clock
        self._slow_path = slow_path
        self._seen: _Observed | None = None
        self._fresh = False  # whether `_seen` is what the server answered last

    @property
    def holder(self) -> str:
        """The holder as last seen, "" for none."""
        return self._seen.holder if self._seen else ""

    @property
    def holder_changed(self) -> bool:
        """Whether the server's last answer named a holder other than us."""
        return self._fresh and self.holder != self._identity

    async def try_acquire_or_renew(self) -> bool:
        """Take the lease if it is free, expired or ours. Returns whether we hold it now.

        Raises:
            ApiError: The server refused for a reason other than a lost race.
            TransportError: No answer; the write may have happened, which the next try finds out.
        """
        if self._seen is not None and self._fresh and self._seen.holder == self._identity:
            # Nobody else writes a lease that we hold: one PUT, unless the version tells otherwise.
            try:
                await self._write(self._client.update, self._held_by_us(self._seen))
            except ConflictError:
                self._slow_path()
            else:
                return True
        self._fresh = False
        try:
            self._observe(await self._client.get())
        except NotFoundError:
            return await self._race(self._client.create, self._held_by_us(None))
        assert self._seen is not None
        if self._seen.holder not in ("", self._identity) and self._clock() < self._seen.expires:
            return False
        return await self._race(self._client.update, self._held_by_us(self._seen))

    async def release(self) -> None:
        """Give the lease back, so that the next candidate need not wait for it to expire. Does nothing if not ours."""
        self._observe(await self._client.get())
        assert self._seen is not None
        if self._seen.holder != self._identity:
            return
        now = micro_time()
        spec = {**self._seen.spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now}
        await self._write(self._client.update, {**self._seen.body, "spec": spec})

    async def _race(self, write: Callable[[Mapping[str, Any]], Any], body: dict[str, Any]) -> bool:
        try:
            await self._write(write, body)
        except ConflictError:  # AlreadyExists too: somebody was faster
            return False
        return True

    async def _write(self, write: Callable[[Mapping[str, Any]], Any], body: dict[str, Any]) -> None:
        self._fresh = False  # until we know: an answer that is lost may have been a success
        self._observe(await write(body))

    def _observe(self, body: dict[str, Any]) -> None:
        changed = self._seen is None or self._seen.body.get("spec") != body.get("spec")
        self._seen = _Observed(body, self._clock() if changed or self._seen is None else self._seen.at)
        self._fresh = True

    def _held_by_us(self, old: _Observed | None) -> dict[str, Any]:
        now = micro_time()
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        if old is None:
            return {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {"name": self._key.name, "namespace": self._key.namespace},
                "spec": spec,
            }
        transitions = int(old.spec.get("leaseTransitions") or 0)
        if old.holder == self._identity:
            spec["acquireTime"] = old.spec.get("acquireTime") or now
            spec["leaseTransitions"] = transitions
        else:
            spec["leaseTransitions"] = transitions + 1
        # Other fields (strategy, preferredHolder) and the metadata belong to others: keep them.
        return {**old.body, "spec": {**old.spec, **spec}}
