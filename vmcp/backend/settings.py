"""What a backend is told about itself: one frozen value per backend, compared on reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from api.contract.defaults import (
    DEFAULT_BREAKER_THRESHOLD,
    DEFAULT_BREAKER_TIMEOUT,
    DEFAULT_HEALTH_INTERVAL,
    DEFAULT_HEALTH_TIMEOUT,
    DEFAULT_TIMEOUT,
    DEFAULT_UNHEALTHY_THRESHOLD,
)

HeaderList = tuple[tuple[str, str], ...]
"""Header names and values, in order."""

Resolve = Mapping[tuple[str, int], str]
"""(host, port) -> address, as curl's `--resolve`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """Numbers of a circuit breaker.

    Attributes:
        threshold: Failures in a row that open it.
        timeout: Seconds open until one request may try.
    """

    threshold: int = DEFAULT_BREAKER_THRESHOLD
    timeout: float = DEFAULT_BREAKER_TIMEOUT.seconds


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """Everything that a backend needs to know of itself; a reload with equal settings keeps the running backend.

    Attributes:
        name: Unique.
        url: http or https.
        transport: `streamable-http` or `sse`.
        type: `container`, `proxy`, `entry`, `direct` or "".
        ca_bundle: Path of extra trust anchors, None = system trust only. Read again when the file changes.
        headers: Static headers of headerForward, secret values already resolved.
        max_connections: For calls; one whose client is being asked is not counted.
        connect_timeout: Seconds until connected, TLS included.
        timeout: Seconds for a whole call that says none itself.
        max_response: Bytes of one JSON body or one SSE event.
        health_interval: Seconds between probes; None = no monitor.
        health_timeout: Seconds for one probe.
        slow_after: Seconds after which a successful probe means DEGRADED.
        unhealthy_threshold: Failures in a row until UNHEALTHY.
        breaker: None = no circuit breaker; entries and direct endpoints have one by default.
        gateway: Mark of the gateway that it is a member of (`vmcp.wire.lineage`); "" = lists are not searched for it.
    """

    name: str
    url: str
    transport: str = "streamable-http"
    type: str = ""
    ca_bundle: str | None = None
    headers: HeaderList = field(default=(), repr=False)
    max_connections: int = 512
    connect_timeout: float = 10.0
    timeout: float = DEFAULT_TIMEOUT.seconds
    max_response: int = 100 * 1024 * 1024
    health_interval: float | None = DEFAULT_HEALTH_INTERVAL.seconds
    health_timeout: float = DEFAULT_HEALTH_TIMEOUT.seconds
    slow_after: float = 5.0
    unhealthy_threshold: int = DEFAULT_UNHEALTHY_THRESHOLD
    breaker: BreakerSettings | None = None

    gateway: str = ""

    def same_connections(self, other: BackendSettings) -> bool:
        """Whether both mean the same connections and sessions: what else differs can change while they live."""
        return other == replace(
            self,
            timeout=other.timeout,
            health_interval=other.health_interval,
            health_timeout=other.health_timeout,
            slow_after=other.slow_after,
            unhealthy_threshold=other.unhealthy_threshold,
            breaker=other.breaker,
            gateway=other.gateway,
        )
