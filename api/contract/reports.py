"""What a running gateway says about its backends in the status of its VirtualMCPServer, and what that means.

The gateway writes the fields that are named here, the operator draws phase, Ready and events from them.
"""

from __future__ import annotations

from collections.abc import Iterable

FIELD_MANAGER = "mcp-vmcp"
"""Owner of the gateway's fields (server-side apply); the operator has one of its own."""

REPORT_EVERY = 300.0
"""Seconds between two reports while nothing changes."""
REPORT_GRACE = 120.0
"""Seconds that a report may be late before it counts as out of date."""

READY = "ready"
DEGRADED = "degraded"
"""Works, but slowly, in part, or for the first time after failures."""
UNAVAILABLE = "unavailable"
UNAUTHENTICATED = "unauthenticated"
"""Alive, and refuses the gateway's own requests."""
UNKNOWN = "unknown"
"""Not checked yet, or failing for less long than it takes to be sure."""

NO_STRATEGY = "unauthenticated"
"""`authType` of a backend for which the gateway has no credentials of its own."""

NAMES_SHOWN = 10
"""Backends that a message names; the rest are counted."""


def reporter_lease_name(gateway: str) -> str:
    """Return the name of the Lease whose holder reports for all replicas of a gateway."""
    return f"{gateway}-vmcp-reporter"


def is_down(status: str, auth_type: str) -> bool:
    """Whether a backend is of no use to anybody.

    One that refuses the gateway's requests still serves callers who bring credentials of their own, unless the gateway
    has credentials for it: then those are wrong.
    """
    if status == UNAUTHENTICATED:
        return auth_type not in ("", NO_STRATEGY)
    return status not in (READY, DEGRADED, UNKNOWN)


def is_usable(status: str, auth_type: str) -> bool:
    """Whether a backend counts as one that can be used: neither down, nor still to be checked."""
    return status != UNKNOWN and not is_down(status, auth_type)


def name_some(names: Iterable[str]) -> str:
    """Return a list of names for a message, with the number of those that it has no room for."""
    found = list(names)
    rest = len(found) - NAMES_SHOWN
    return ", ".join(found[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
