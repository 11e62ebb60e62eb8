"""Which members cannot be backends by what they say themselves, and whose a name is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.conditions import MCPServerEntryPhase, MemberSkipReason
from api.contract import Dialect, header_problems, validate_remote_url
from api.contract.urls import has_http_url_shape
from membership.member import Member, MemberType


@dataclass(frozen=True, slots=True)
class Skipped:
    """A member that is no backend."""

    name: str
    reason: MemberSkipReason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def judge_member(member: Member, dialect: Dialect, *, discovered: bool) -> Skipped | None:
    """Say why a member by itself cannot be a backend; references are judged elsewhere.

    Args:
        member: the member.
        dialect: of the gateway.
        discovered: the gateway lists members by itself.
    """
    place = (dialect, discovered)
    if place not in member.made:
        member.made[place] = _judge(member, dialect, discovered=discovered)
    found: Skipped | None = member.made[place]
    return found


def _judge(member: Member, dialect: Dialect, *, discovered: bool) -> Skipped | None:
    if member.problem:
        return Skipped(member.name, MemberSkipReason.NOT_VALID, member.problem)
    if dialect is Dialect.TOOLHIVE and discovered and member.type is MemberType.DIRECT:
        return Skipped(member.name, MemberSkipReason.NOT_SUPPORTED)
    if member.type is MemberType.ENTRY and member.phase != MCPServerEntryPhase.VALID:
        return Skipped(member.name, MemberSkipReason.NOT_VALID, f"its phase is {member.phase or 'not set yet'}")
    if not member.url or not member.available:
        return Skipped(member.name, MemberSkipReason.NO_URL)
    if member.type in (MemberType.ENTRY, MemberType.DIRECT):
        # The status may speak of an older spec; what is published is judged anew.
        problem = validate_remote_url(member.url, allow_private=member.allow_private)
        if problem:
            return Skipped(member.name, MemberSkipReason.INVALID_URL, problem)
    elif not has_http_url_shape(member.url):
        # Of a workload the status gives it, which whoever may write that can fill with anything.
        return Skipped(member.name, MemberSkipReason.INVALID_URL, "the URL in its status is not an http(s) URL")
    if member.transport not in ("sse", "streamable-http"):
        return Skipped(member.name, MemberSkipReason.UNSUPPORTED_TRANSPORT, member.transport)
    return _judge_headers(member)


def _judge_headers(member: Member) -> Skipped | None:
    problems = header_problems(member.plain_headers, [header.header for header in member.secret_headers])
    return Skipped(member.name, MemberSkipReason.RESTRICTED_HEADER, problems[0].message) if problems else None


def unique_names(members: Iterable[Member], usable: Iterable[Member]) -> tuple[list[Member], list[Skipped]]:
    """Split usable members into those that own their name, sorted by name, and those that do not.

    A name belongs to the oldest of all members that have it, also while that one cannot be used: otherwise the name,
    and with it policies, tool names and credentials, would change hands with the owner's health.
    """
    owners: dict[str, Member] = {}
    for member in members:
        owner = owners.setdefault(member.name, member)
        if member.order < owner.order:
            owners[member.name] = member
    kept = []
    skipped = []
    for member in sorted(usable, key=lambda member: (member.name, member.order)):
        owner = owners[member.name]
        if owner is member:
            kept.append(member)
        else:
            skipped.append(Skipped(member.name, MemberSkipReason.NAME_COLLISION, f"the name belongs to a {owner.type}"))
    return kept, skipped
