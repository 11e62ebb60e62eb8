"""Variables of the gateway's pods, in the stock operator's order: everything secret comes from Secrets by reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.contract import Dialect
from api.contract.identifiers import (
    NAME_ENV,
    NAMESPACE_ENV,
    SECRET_ENV,
    SESSION_HMAC_ENV,
    EnvInput,
    SecretPurpose,
    assign_bound_env_names,
    assign_env_names,
    secret_identifier,
)
from api.contract.strategies import EnvSource
from controllers.shared.workload.names import SCRATCH
from controllers.shared.workload.pod import Variable
from controllers.virtualmcpserver.names import HMAC_KEY, hmac_secret_name
from controllers.virtualmcpserver.parts import Parts
from membership import Material, Member, header_input, manifest_input


@dataclass(frozen=True)
class Names:
    """The variables of all inputs of one Deployment."""

    by_input: Mapping[EnvInput, str]

    def __call__(self, item: EnvInput) -> str:
        """Return the variable of an input."""
        return self.by_input.get(item, item.natural_name)


def all_sources(parts: Parts, backends: tuple[Member, ...], material: Material) -> list[EnvSource]:
    """Return the secret variables of strategies and headers, strategies of the spec first, sorted by name within."""
    references, resolution = parts.outgoing.section.references, parts.outgoing.section.resolution
    named = [references.default, *(name for name in references.overrides.values() if name)]
    # A variable whose Secret is missing would keep the whole pod from starting.
    spec_sources = [s for s in resolution.sources(named) if material.has_key(s.secret, s.key)]
    found = sorted(spec_sources, key=lambda s: s.input.natural_name)
    strategies = resolution.sources([name for m in backends if (name := references.of(m))])
    found += sorted(strategies, key=lambda s: s.input.natural_name)
    headers = [
        EnvSource(header_input(member, h.header), h.secret, h.key) for member in backends for h in member.secret_headers
    ]
    found += sorted(headers, key=lambda s: (s.input.natural_name, s.input.parts))
    return list({source.input: source for source in found}.values())


def assign(sources: list[EnvSource], dialect: Dialect, stamp: Callable[[str, str], str]) -> Names:
    """Name the variables of a Deployment without collisions; the native gateway's also after what fills them.

    Args:
        sources: the variables.
        dialect: of the gateway; the stock one rolls with every configuration, and some names it makes itself.
        stamp: of Secret and key: what changes with the value and tells nothing about it.
    """
    if dialect is Dialect.TOOLHIVE:
        return Names(assign_env_names(source.input for source in sources))
    return Names(assign_bound_env_names({s.input: f"{s.secret}/{s.key}={stamp(s.secret, s.key)}" for s in sources}))


def pod_variables(
    parts: Parts, backends: tuple[Member, ...], sources: list[EnvSource], names: Names
) -> tuple[Variable, ...]:
    """Return the container's variables.

    What single members need is optional: a Secret can go between the decision and the start of a pod, and then the
    native gateway leaves out the one backend. The stock gateway would not start either way.
    """
    subject = parts.subject
    spared = subject.dialect is Dialect.NATIVE
    found = [Variable(NAME_ENV, subject.name), Variable(NAMESPACE_ENV, subject.namespace), *parts.oidc.variables]
    headers = [source for source in sources if source.input.purpose is SecretPurpose.HEADER_FORWARD]
    strategies = [source for source in sources if source.input.purpose is not SecretPurpose.HEADER_FORWARD]
    found += [_filled(source, names, optional=spared) for source in strategies]
    found += _header_variables(subject.dialect, backends, [_filled(s, names, optional=spared) for s in headers], names)
    found.append(Variable(SESSION_HMAC_ENV, secret=hmac_secret_name(subject.name), key=HMAC_KEY))
    found += (*parts.sessions.variables, *parts.telemetry.variables)
    found += [
        Variable("XDG_CONFIG_HOME", SCRATCH),
        Variable("HOME", SCRATCH),
        Variable("TOOLHIVE_RUNTIME", "kubernetes"),
        Variable("UNSTRUCTURED_LOGS", "false"),
    ]
    if any(variable.name.startswith(SECRET_ENV) for variable in found):
        found.append(Variable("TOOLHIVE_SECRETS_PROVIDER", "environment"))
    return tuple(found)


def _filled(source: EnvSource, names: Names, *, optional: bool) -> Variable:
    return Variable(names(source.input), secret=source.secret, key=source.key, optional=optional)


def _header_variables(
    dialect: Dialect, backends: tuple[Member, ...], values: list[Variable], names: Names
) -> list[Variable]:
    found = list(values)
    if dialect is Dialect.TOOLHIVE:
        found += [
            Variable(manifest_input(member).natural_name, _manifest_json(member, names))
            for member in backends
            if member.plain_headers or member.secret_headers
        ]
    return sorted(found, key=lambda variable: variable.name)


def _manifest_json(member: Member, names: Names) -> str:
    manifest: dict[str, dict[str, str]] = {}
    if member.plain_headers:
        manifest["addPlaintextHeaders"] = dict(sorted(member.plain_headers.items()))
    if member.secret_headers:
        identifiers = {
            h.header: secret_identifier(names(header_input(member, h.header))) for h in member.secret_headers
        }
        manifest["addHeadersFromSecret"] = dict(sorted(identifiers.items()))
    return json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)
