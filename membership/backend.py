"""From a member to its backend in the configuration: URL, transport, CA bundle, headers, metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from api.contract import Dialect, HeaderForward, StaticBackend
from api.contract.identifiers import EnvInput, SecretPurpose, secret_identifier
from api.contract.volumes import VolumeInput, VolumePurpose
from membership.member import Member, MemberType

WORKLOAD_TYPES = {
    MemberType.CONTAINER: "mcp_server",
    MemberType.PROXY: "remote_proxy",
    MemberType.ENTRY: "server_entry",
    MemberType.DIRECT: "remote_endpoint",
}
"""`workload_type` in a backend's metadata."""
MAX_ANNOTATIONS = 4 * 1024
"""Bytes of annotations that one member may add to the configuration of a stock gateway."""

_FOREIGN = ("kubectl.kubernetes.io/", "kubernetes.io/", "deployment.kubernetes.io/", "k8s.io/")
"""Annotations of Kubernetes itself are no metadata of a backend."""

EnvName = Callable[[EnvInput], str]
"""The variable of an input in one Deployment."""


class Place(NamedTuple):
    """Where a backend is written: in whose dialect, and of which group."""

    dialect: Dialect
    namespace: str
    group: str


def backend_of(member: Member, place: Place, env_name: EnvName) -> StaticBackend:
    """Return the backend that a usable member becomes."""
    if member.secret_headers:  # the names of their variables depend on all members
        return _make(member, place, env_name)
    if place not in member.made:
        member.made[place] = _make(member, place, env_name)
    found: StaticBackend = member.made[place]
    return found


def _make(member: Member, place: Place, env_name: EnvName) -> StaticBackend:
    # Every value is a text already; validating thousands of backends for each change would be most of the work.
    return StaticBackend.model_construct(
        name=member.name,
        url=member.url,
        transport=member.transport,
        type=str(member.type),
        ca_bundle_path=ca_volume(member, place.dialect).path(member.ca_key) if has_ca(member) else "",
        metadata=metadata_of(member, place),
        header_forward=header_forward(member, env_name) if place.dialect is Dialect.NATIVE else None,
    )


def has_ca(member: Member) -> bool:
    """Whether the gateway itself speaks TLS to the member with a bundle of its own."""
    return bool(member.ca_config_map) and member.type in (MemberType.ENTRY, MemberType.DIRECT)


def ca_volume(member: Member, dialect: Dialect) -> VolumeInput:
    """Return what names the volume of a member's CA bundle.

    Towards the native gateway, whose pods go on when a configuration changes, another ConfigMap is mounted at another
    path: a pod that does not have it yet must not judge the new URL's certificate by the old bundle.
    """
    source = member.ca_config_map if dialect is Dialect.NATIVE else ""
    return VolumeInput(VolumePurpose.BACKEND_CA, member.name, source)


def metadata_of(member: Member, place: Place) -> dict[str, str]:
    """Return a backend's metadata: the stock operator's keys, and for the stock gateway the member's annotations.

    The native gateway makes nothing of annotations, and they would only grow the configuration.
    """
    kept = _bounded(member.annotations) if place.dialect is Dialect.TOOLHIVE else {}
    own = {
        "tool_type": "mcp",
        "workload_type": WORKLOAD_TYPES[member.type],
        "workload_status": member.phase,
        "namespace": place.namespace,
        "group": place.group,
    }
    if member.type is not MemberType.CONTAINER:
        own["remote_url"] = member.remote_url
    return kept | own


def _bounded(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the smallest annotations that together stay below the bound; those of Kubernetes are no metadata."""
    kept: dict[str, str] = {}
    room = MAX_ANNOTATIONS
    own = (item for item in annotations.items() if not item[0].startswith(_FOREIGN))
    for key, value in sorted(own, key=lambda item: (len(item[0]) + len(item[1]), item[0])):
        room -= len(key.encode()) + len(value.encode())
        if room < 0:
            break
        kept[key] = value
    return {key: value for key, value in annotations.items() if key in kept}


def header_forward(member: Member, env_name: EnvName) -> HeaderForward | None:
    """Return the headers that requests towards a member carry; None for none."""
    if not member.plain_headers and not member.secret_headers:
        return None
    return HeaderForward(
        add_plaintext_headers=dict(member.plain_headers),
        add_headers_from_secret={
            header.header: secret_identifier(env_name(header_input(member, header.header)))
            for header in member.secret_headers
        },
    )


def header_input(member: Member, header: str) -> EnvInput:
    """Return what names the variable of a forwarded secret header."""
    return EnvInput(SecretPurpose.HEADER_FORWARD, (header, member.name))


def manifest_input(member: Member) -> EnvInput:
    """Return what names the variable that tells the stock gateway a member's headers."""
    return EnvInput(SecretPurpose.HEADER_MANIFEST, (member.name,))
