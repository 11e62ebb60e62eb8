"""How the time between SIGTERM and the end is divided."""

from __future__ import annotations

from dataclasses import dataclass

DRAIN_SECONDS = 5.0
"""Of further service, so that load balancers notice; none where nobody balances."""
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How long the parts of an end in good order may take, in seconds.

    Attributes:
        drain: Between "not ready" and the end of accepting: time for load balancers to notice.
        grace: After that, for calls that are under way.
        close: After that, for sessions and backends.
    """

    drain: float = 0.0
    grace: float = 10.0
    close: float = 10.0


def divide(grace_period: str, *, balanced: bool) -> Ending:
    """Divide a pod's grace period: what does not drain or close belongs to the calls that are under way.

    Args:
        grace_period: Value of `GRACE_PERIOD_ENV`: whole seconds; "" outside of a pod.
        balanced: Whether others than this machine send requests, by way of somebody who must notice the end.

    Raises:
        ValueError: The value is not a number of seconds.
    """
    if not grace_period:
        return Ending(DRAIN_SECONDS if balanced else 0.0)
    if not (grace_period.isascii() and grace_period.isdecimal()):
        raise ValueError(f"{grace_period!r} is not a number of seconds")
    seconds = float(grace_period)
    drain = min(DRAIN_SECONDS, seconds / 6) if balanced else 0.0
    close = min(CLOSE_SECONDS, seconds / 6)
    # A second is left: the kubelet counts from its own look at the pod.
    return Ending(drain, max(0.0, seconds - drain - close - min(1.0, seconds / 6)), close)
