"""The members of a group that become backends of one gateway, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from api.conditions import MemberSkipReason
from api.contract import Dialect
from api.contract.identifiers import EnvInput, SecretPurpose, colliding_inputs
from api.contract.strategies import EnvSource
from membership.auth import References, Resolution
from membership.backend import has_ca, header_input, manifest_input
from membership.judge import Skipped, judge_member, unique_names
from membership.member import Member

Refusal = tuple[MemberSkipReason, str]
"""Why an auth config cannot be used: reason and detail of whoever names it."""


class Material(Protocol):
    """What is known of Secrets and ConfigMaps. What could not be read for a passing reason counts as good."""

    def has_key(self, secret: str, key: str) -> bool:
        """Whether a Secret has a key with a value."""
        ...

    def unfit(self, secret: str, key: str, *, header: bool) -> str:
        """Say why a gateway cannot use the value, in a header or as a credential; "" = it can."""
        ...

    def has_certificate(self, config_map: str, key: str) -> bool:
        """Whether a ConfigMap has a certificate under a key."""
        ...


@dataclass(frozen=True, kw_only=True)
class GatewayTraits:
    """What of a gateway decides about its members.

    Attributes:
        dialect: which gateway it is.
        inline: its configuration lists the backends; otherwise it watches the group itself.
        references: to auth configs.
        resolution: of those and of the members' own.
        material: Secrets and ConfigMaps.
    """

    dialect: Dialect
    inline: bool
    references: References = field(default_factory=References)
    resolution: Resolution = field(default_factory=Resolution)
    material: Material


@dataclass(frozen=True, slots=True)
class Chosen:
    """The members of a group, split.

    Attributes:
        backends: those that become backends, sorted by name.
        skipped: the others, with the reason.
    """

    backends: tuple[Member, ...]
    skipped: tuple[Skipped, ...]


def choose(members: Iterable[Member], gateway: GatewayTraits) -> Chosen:
    """Split the members of a group. One that cannot be used costs itself only: no variable, no volume, no backend."""
    members = tuple(members)
    usable: list[Member] = []
    skipped: list[Skipped] = []
    refused: dict[str, Refusal | None] = {}
    for member in members:
        problem = (
            judge_member(member, gateway.dialect, discovered=not gateway.inline)
            or _judge_material(member, gateway.material)
            or _judge_auth(member, gateway, refused)
        )
        if problem is not None:
            skipped.append(problem)
        else:
            usable.append(member)
    kept, namesakes = unique_names(members, usable)
    collisions = _judge_collisions(kept, gateway)
    colliding = {item.name for item in collisions}
    backends = tuple(member for member in kept if member.name not in colliding)
    return Chosen(backends, (*skipped, *namesakes, *collisions))


def member_sources(member: Member, gateway: GatewayTraits) -> list[EnvSource]:
    """Return the secret variables that a member needs: of its headers, then of its strategy."""
    headers = [EnvSource(header_input(member, h.header), h.secret, h.key) for h in member.secret_headers]
    reference = gateway.references.of(member)
    return headers + gateway.resolution.sources([reference] if reference else [])


def _judge_material(member: Member, material: Material) -> Skipped | None:
    for header in member.secret_headers:
        if not material.has_key(header.secret, header.key):
            detail = f'Secret "{header.secret}" has no key "{header.key}" or does not exist'
            return Skipped(member.name, MemberSkipReason.SECRET_NOT_FOUND, detail)
        problem = material.unfit(header.secret, header.key, header=True)
        if problem:
            detail = f'the value of header "{header.header}" in Secret "{header.secret}" {problem}'
            return Skipped(member.name, MemberSkipReason.RESTRICTED_HEADER, detail)
    if has_ca(member) and not material.has_certificate(member.ca_config_map, member.ca_key):
        detail = f'ConfigMap "{member.ca_config_map}" has no certificate under "{member.ca_key}" or does not exist'
        return Skipped(member.name, MemberSkipReason.CA_BUNDLE_NOT_FOUND, detail)
    return None


def _judge_auth(member: Member, gateway: GatewayTraits, known: dict[str, Refusal | None]) -> Skipped | None:
    """Say why a member has no usable authentication; an auth config that many members name is judged once."""
    reference = gateway.references.of(member)
    if not reference:
        return None
    if reference not in known:
        known[reference] = _judge_reference(reference, gateway)
    refusal = known[reference]
    return Skipped(member.name, *refusal) if refusal is not None else None


def _judge_reference(reference: str, gateway: GatewayTraits) -> Refusal | None:
    failure = gateway.resolution.failures.get(reference)
    if failure is not None:
        return MemberSkipReason.AUTH_CONFIG_FAILED, failure.message
    for source in gateway.resolution.sources([reference]):
        if not gateway.material.has_key(source.secret, source.key):
            detail = f'Secret "{source.secret}" has no key "{source.key}" or does not exist'
            return MemberSkipReason.SECRET_NOT_FOUND, detail
        problem = gateway.material.unfit(source.secret, source.key, header=_is_header(source))
        if problem:
            detail = f'the value of key "{source.key}" in Secret "{source.secret}" {problem}'
            return MemberSkipReason.AUTH_CONFIG_FAILED, detail
    return None


def _is_header(source: EnvSource) -> bool:
    return source.input.purpose is SecretPurpose.HEADER_INJECTION


def _judge_collisions(members: list[Member], gateway: GatewayTraits) -> list[Skipped]:
    """Refuse members whose variables the stock gateway would derive by itself and confuse."""
    if gateway.dialect is not Dialect.TOOLHIVE:
        return []
    inputs: dict[EnvInput, list[str]] = {}
    for member in members:
        own = [manifest_input(member)] if member.plain_headers or member.secret_headers else []
        if not gateway.inline:
            own += [source.input for source in member_sources(member, gateway)]
        for item in own:
            inputs.setdefault(item, []).append(member.name)
    names = sorted({name for item in colliding_inputs(inputs) for name in inputs[item]})
    return [Skipped(name, MemberSkipReason.IDENTIFIER_COLLISION) for name in names]
