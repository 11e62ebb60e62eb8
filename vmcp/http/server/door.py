"""Who may connect: how many connections there are, and how many of them come from one address."""

from __future__ import annotations

import resource
from collections import Counter
from time import monotonic
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

MAX_CONNECTIONS: Final = 4096
"""Connections of clients at a time. A quiet one costs about 10 KiB, a client with an open stream 30."""
MAX_PER_ADDRESS: Final = 2048
"""Of these, from one address: half, because all clients behind an ingress share one."""
_OTHERS: Final = 256
"""File descriptors that are left for connections to backends, files and the loop itself."""
_TELL_EVERY: Final = 60.0


class Door:
    """Counts the connections of a listener.

    Attributes:
        refused: Connections that were too many, since the start.
    """

    def __init__(self, total: int = MAX_CONNECTIONS, per_address: int = MAX_PER_ADDRESS) -> None:
        """Let in at most `total` connections, and fewer where the process may not open so many files."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            total = max(1, min(total, files - _OTHERS))
        self._total = total
        self._per_address = min(per_address, total)
        self._inside = 0
        self._by_address: Counter[str] = Counter()
        self._told = float("-inf")
        self.refused = 0

    def enter(self, address: str) -> bool:
        """Count a connection from `address`, which must `leave` again; False = it is one too many."""
        if self._inside >= self._total or self._by_address[address] >= self._per_address:
            self.refused += 1
            if monotonic() - self._told > _TELL_EVERY:
                self._told = monotonic()
                log.warning(
                    "too many connections, some are refused",
                    address=address,
                    of_address=self._by_address[address],
                    all=self._inside,
                )
            return False
        self._inside += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in is gone."""
        self._inside -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]


def address_of(found: Any) -> tuple[str, int] | None:
    """Return host and port of a socket's address; None where it has none."""
    if not isinstance(found, tuple | list) or len(found) < 2:
        return None
    # A listener of both families shows IPv4 addresses in the form of IPv6.
    return str(found[0]).removeprefix("::ffff:"), int(found[1])
