"""The group's members as a gateway's backends: what they are, and which of them cannot be used and why.

One broken member never blocks the others: it contributes neither backend nor variable nor volume, and its name and
reason stand in the condition `BackendsIncluded`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from api.conditions import MCPRemoteEndpointPhase, MCPServerEntryPhase, MemberSkipReason
from api.contract import Dialect, header_problems, validate_remote_url
from controllers.shared.resources import ENDPOINT, ENTRY, PROXY, SERVER
from runtime import Record

SKIPPED_SHOWN = 10
"""Skipped members that the condition names."""


class MemberType(StrEnum):
    """Kind of a member, in the words of the configuration file."""

    CONTAINER = "container"
    PROXY = "proxy"
    ENTRY = "entry"
    DIRECT = "direct"


_TYPES = {SERVER: MemberType.CONTAINER, PROXY: MemberType.PROXY, ENTRY: MemberType.ENTRY}
WORKLOAD_TYPES = {
    MemberType.CONTAINER: "mcp_server",
    MemberType.PROXY: "remote_proxy",
    MemberType.ENTRY: "server_entry",
    MemberType.DIRECT: "remote_endpoint",
}
"""`workload_type` in a backend's metadata."""


class _Ref(msgspec.Struct, frozen=True):
    name: str = ""


class _SecretKey(msgspec.Struct, frozen=True):
    name: str = ""
    key: str = ""


class _SecretHeader(msgspec.Struct, frozen=True, rename="camel"):
    header_name: str = ""
    value_secret_ref: _SecretKey = _SecretKey()


class _Headers(msgspec.Struct, frozen=True, rename="camel"):
    add_plaintext_headers: dict[str, str] = msgspec.field(default_factory=dict)
    add_headers_from_secret: tuple[_SecretHeader, ...] = ()


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    config_map_ref: _SecretKey | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    remote_url: str = ""
    transport: str = ""
    proxy_mode: str = ""
    type: str = ""
    allow_private_endpoint: bool = False
    external_auth_config_ref: _Ref | None = None
    header_forward: _Headers | None = None
    ca_bundle_ref: _Bundle | None = None
    tool_config_ref: _Ref | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    url: str = ""
    phase: str = ""
    observed_generation: int = 0


class _Body(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """A forwarded header whose value is in a Secret."""

    header: str
    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class Member:
    """What a gateway must know of one member."""

    type: MemberType
    name: str
    order: tuple[str, str]
    """Creation time and uid: the older keeps a name that two members share."""
    url: str = ""
    transport: str = ""
    phase: str = ""
    remote_url: str = ""
    """The remote server's own URL, for kinds that have one."""
    allow_private: bool = False
    auth_config: str = ""
    tool_config: str = ""
    ca_config_map: str = ""
    ca_key: str = ""
    plain_headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: tuple[SecretHeader, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why the object itself cannot be used: unreadable, being deleted, or not the owner of its name."""
    uid: str = ""
    judged: bool = True
    """Its controller's verdict is about this spec; False while it has not looked at the newest one."""
    available: bool = True
    """Its status names a URL, or its kind does not say so there."""
    made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """What pure functions made of this member before, by what else they depend on. A group is decided on as a whole
    whenever one of its members changes; the others need not be judged and written anew."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A member that is no backend."""

    name: str
    reason: MemberSkipReason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def read_member(record: Record) -> Member:
    """Read what matters of a member; an odd object becomes a member with a problem.

    Everything comes from one generation of the object. The URL of a remote server is that of the spec, as its headers,
    Secrets and references are; the status only says whether that spec passed its checks. A URL of yesterday with
    credentials of today would send a key to the wrong host.
    """
    meta = record.meta
    order = (meta.creation_timestamp or "", meta.uid)
    kind = _TYPES.get(record.resource, MemberType.DIRECT)
    try:
        body = _decode(record.raw)
    except msgspec.DecodeError:
        return Member(kind, meta.name, order, problem="the object cannot be read")
    spec, status = body.spec, body.status
    if record.resource == ENDPOINT and spec.type != "direct":
        kind = MemberType.PROXY
    remote = kind in (MemberType.ENTRY, MemberType.DIRECT)
    headers = spec.header_forward if remote else None
    bundle = spec.ca_bundle_ref.config_map_ref if spec.ca_bundle_ref is not None else None
    return Member(
        type=kind,
        name=meta.name,
        order=order,
        url=spec.remote_url if remote else status.url,
        transport=_transport(kind, spec),
        phase=status.phase,
        remote_url=spec.remote_url,
        allow_private=spec.allow_private_endpoint,
        auth_config=spec.external_auth_config_ref.name if spec.external_auth_config_ref is not None else "",
        tool_config=spec.tool_config_ref.name
        if spec.tool_config_ref is not None and record.resource == ENDPOINT
        else "",
        ca_config_map=bundle.name if bundle is not None else "",
        ca_key=(bundle.key or "ca.crt") if bundle is not None else "",
        plain_headers=headers.add_plaintext_headers if headers is not None else {},
        secret_headers=tuple(
            SecretHeader(h.header_name, h.value_secret_ref.name, h.value_secret_ref.key)
            for h in (headers.add_headers_from_secret if headers is not None else ())
        ),
        annotations=meta.annotations,
        problem="it is being deleted" if meta.deleting else "",
        uid=meta.uid,
        judged=not remote or status.observed_generation in (0, meta.generation),
        available=kind is MemberType.ENTRY or bool(status.url),
    )


def is_settled(member: Member) -> bool:
    """Whether what is known of a member replaces what was known of it before.

    It does not while its controller has not judged the newest spec, or while something is only not there yet: an empty
    URL means "not yet available", so a running gateway keeps the backend. What the user must mend settles it.
    """
    if member.problem:
        return True
    if not member.judged or not member.available:
        failed = member.type is MemberType.DIRECT and member.phase == MCPRemoteEndpointPhase.FAILED
        return member.judged and failed
    return member.type is not MemberType.ENTRY or member.phase != MCPServerEntryPhase.PENDING


def _transport(kind: MemberType, spec: _Spec) -> str:
    # proxyMode has a default in the schema, but only means something where the server itself speaks stdio.
    if kind is MemberType.CONTAINER:
        return (spec.proxy_mode or "streamable-http") if spec.transport in ("", "stdio") else spec.transport
    return spec.transport or "streamable-http"


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


def describe_skipped(skipped: Iterable[Skipped]) -> str:
    """Return the message of `BackendsIncluded`: the count, the first names, their reasons."""
    items = sorted(skipped, key=lambda item: (item.name, item.reason))
    shown = ", ".join(str(item) for item in items[:SKIPPED_SHOWN])
    more = f" and {len(items) - SKIPPED_SHOWN} more" if len(items) > SKIPPED_SHOWN else ""
    return f"{len(items)} members are skipped: {shown}{more}" if len(items) != 1 else f"1 member is skipped: {shown}"
