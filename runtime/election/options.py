"""Options of leader election."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ElectionOptions:
    """Leader election by a Lease. The times are client-go's defaults.

    Attributes:
        name: Name of the Lease, the same for all replicas.
        namespace: Namespace of the Lease.
        lease_duration: Seconds that others wait after the last renewal they saw before they take over.
        renew_deadline: Seconds after its last renewal at which a leader stops being one. Writes are refused from this
            moment on, whether or not anything else still works.
        retry_period: Seconds between two tries to acquire or renew.
        beat_limit: Seconds without a sign of life of the main loop after which the lease is not renewed any more;
            None: half of `renew_deadline`.
        identity: Who we are in the Lease; None: host name and a random UUID.
        release_on_stop: Give the lease back after the controllers have drained, so that the next replica need not wait.
    """

    name: str
    namespace: str
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    beat_limit: float | None = None
    identity: str | None = None
    release_on_stop: bool = True

    def __post_init__(self) -> None:
        if not self.name or not self.namespace:
            raise ValueError("leader election needs the name and the namespace of the lease")
        if not self.lease_duration > self.renew_deadline > self.retry_period * 1.2 > 0:
            raise ValueError(
                "leader election needs lease duration > renew deadline > 1.2 x retry period > 0, got "
                f"{self.lease_duration:g} s, {self.renew_deadline:g} s and {self.retry_period:g} s"
            )
        if self.lease_duration < 1:
            raise ValueError("a lease lasts at least 1 s: the API counts whole seconds")

    @property
    def longest_silence(self) -> float:
        """`beat_limit`, or its default."""
        return self.renew_deadline / 2 if self.beat_limit is None else self.beat_limit
