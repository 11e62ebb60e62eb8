"""Members as this operator's cache holds them; what they become is decided in `membership`."""

from __future__ import annotations

from collections.abc import Iterable

from membership import Member, MemberType, SecretHeader, Skipped, is_settled
from membership import read_member as read
from runtime import Record

__all__ = [
    "Member",
    "MemberType",
    "SecretHeader",
    "Skipped",
    "awaits_verdict",
    "describe_skipped",
    "is_settled",
    "read_member",
]

SKIPPED_SHOWN = 10
"""Skipped members that the condition names."""


def read_member(record: Record) -> Member:
    """Read what matters of a member; an odd object becomes a member with a problem."""
    return read(record.resource.kind, record.meta, record.raw)


def awaits_verdict(member: Member) -> bool:
    """Whether this operator has not judged a member at all: it was made a moment ago."""
    own = member.type in (MemberType.ENTRY, MemberType.DIRECT)
    return own and not member.problem and (not member.phase or not member.judged)


def describe_skipped(skipped: Iterable[Skipped]) -> str:
    """Return the message of `BackendsIncluded`: the count, the first names, their reasons."""
    items = sorted(skipped, key=lambda item: (item.name, item.reason))
    shown = ", ".join(str(item) for item in items[:SKIPPED_SHOWN])
    more = f" and {len(items) - SKIPPED_SHOWN} more" if len(items) > SKIPPED_SHOWN else ""
    return f"{len(items)} members are skipped: {shown}{more}" if len(items) != 1 else f"1 member is skipped: {shown}"
