"""A member of a group as an object of any of the four kinds says it, in one shape."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from api.conditions import MCPRemoteEndpointPhase, MCPServerEntryPhase
from api.contract.volumes import DEFAULT_CA_KEY


class MemberType(StrEnum):
    """Kind of a member, in the words of the configuration file."""

    CONTAINER = "container"
    PROXY = "proxy"
    ENTRY = "entry"
    DIRECT = "direct"


_TYPES = {
    "MCPServer": MemberType.CONTAINER,
    "MCPRemoteProxy": MemberType.PROXY,
    "MCPServerEntry": MemberType.ENTRY,
    "MCPRemoteEndpoint": MemberType.DIRECT,
}


class MemberMeta(Protocol):
    """What must be known of an object's metadata."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def uid(self) -> str: ...  # noqa: D102
    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def creation_timestamp(self) -> str | None: ...  # noqa: D102
    @property
    def annotations(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def deleting(self) -> bool: ...  # noqa: D102


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


def read_member(kind: str, meta: MemberMeta, raw: bytes) -> Member:
    """Read what matters of a member; an odd object becomes a member with a problem.

    Everything comes from one generation of the object. The URL of a remote server is that of the spec, as its headers,
    Secrets and references are; the status only says whether that spec passed its checks. A URL of yesterday with
    credentials of today would send a key to the wrong host.

    Args:
        kind: MCPServer, MCPRemoteProxy, MCPServerEntry or MCPRemoteEndpoint.
        meta: the object's metadata.
        raw: the object's JSON.
    """
    order = (meta.creation_timestamp or "", meta.uid)
    type_ = _TYPES[kind]
    try:
        body = _decode(raw)
    except msgspec.DecodeError:
        return Member(type_, meta.name, order, problem="the object cannot be read", uid=meta.uid)
    spec, status = body.spec, body.status
    if type_ is MemberType.DIRECT and spec.type != "direct":
        type_ = MemberType.PROXY
    remote = type_ in (MemberType.ENTRY, MemberType.DIRECT)
    # All others are judged by this operator for each generation; the status of an MCPServer only gives a URL.
    counted = kind != "MCPServer"
    headers = spec.header_forward if remote else None
    bundle = spec.ca_bundle_ref.config_map_ref if spec.ca_bundle_ref is not None else None
    return Member(
        type=type_,
        name=meta.name,
        order=order,
        url=spec.remote_url if remote else status.url,
        transport=_transport(type_, spec),
        phase=status.phase,
        remote_url=spec.remote_url,
        allow_private=spec.allow_private_endpoint,
        auth_config=spec.external_auth_config_ref.name if spec.external_auth_config_ref is not None else "",
        tool_config=spec.tool_config_ref.name
        if spec.tool_config_ref is not None and type_ is MemberType.DIRECT  # a proxy shows what it shall by itself
        else "",
        ca_config_map=bundle.name if bundle is not None else "",
        ca_key=(bundle.key or DEFAULT_CA_KEY) if bundle is not None else "",
        plain_headers=headers.add_plaintext_headers if headers is not None else {},
        secret_headers=tuple(
            SecretHeader(h.header_name, h.value_secret_ref.name, h.value_secret_ref.key)
            for h in (headers.add_headers_from_secret if headers is not None else ())
        ),
        annotations=meta.annotations,
        problem="it is being deleted" if meta.deleting else "",
        uid=meta.uid,
        judged=not counted or status.observed_generation in (0, meta.generation),
        available=type_ is MemberType.ENTRY or bool(status.url),
    )


def is_settled(member: Member) -> bool:
    """Whether what is known of a member replaces what was known of it before.

    It does not while its controller has not judged the newest spec, or while something is only not there yet: an empty
    URL means "not yet available", so a running gateway keeps the backend. What the user must mend settles it.
    """
    if member.problem:
        return True
    if not member.judged or not member.available:
        remote = member.type in (MemberType.DIRECT, MemberType.PROXY)
        failed = remote and member.phase == MCPRemoteEndpointPhase.FAILED
        return member.judged and failed
    return member.type is not MemberType.ENTRY or member.phase != MCPServerEntryPhase.PENDING


def _transport(kind: MemberType, spec: _Spec) -> str:
    # proxyMode has a default in the schema, but only means something where the server itself speaks stdio.
    if kind is MemberType.CONTAINER:
        return (spec.proxy_mode or "streamable-http") if spec.transport in ("", "stdio") else spec.transport
    return spec.transport or "streamable-http"
