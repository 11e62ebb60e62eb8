"""Variables and volumes of the gateway's pods: everything secret comes from Secrets by reference, never by value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.contract import Dialect, VmcpConfig
from api.contract.identifiers import (
    OIDC_CLIENT_SECRET_ENV,
    REDIS_PASSWORD_ENV,
    SECRET_ENV,
    SESSION_HMAC_ENV,
    EnvInput,
    SecretPurpose,
    assign_env_names,
    secret_identifier,
)
from api.contract.strategies import SecretSource
from api.contract.volumes import VolumePurpose, assign_volume_names
from controllers.shared.content import Facts, Unknown
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.names import CONFIG_DIRECTORY, config_map_name, hmac_secret_name
from controllers.virtualmcpserver.references import Referenced
from controllers.virtualmcpserver.snapshot import Snapshot
from membership import EnvSource, Member, Resolution, ca_volume, has_ca, header_input, manifest_input

HMAC_KEY = "hmac-secret"
SCRATCH = "/tmp"  # noqa: S108  a volume of the pod's own
"""The only writable place of a read-only root."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """The variables of all inputs of one Deployment."""

    by_input: Mapping[EnvInput, str]

    def __call__(self, item: EnvInput) -> str:
        """Return the variable of an input."""
        return self.by_input.get(item, item.natural_name)


def all_sources(snapshot: Snapshot, backends: tuple[Member, ...], resolution: Resolution) -> list[EnvSource]:
    """Return the secret variables of strategies and headers, strategies of the spec first, sorted by name within."""
    named = [snapshot.references.default, *(name for name in snapshot.references.overrides.values() if name)]
    # A variable whose Secret is missing would keep the whole pod from starting.
    spec_sources = [s for s in resolution.sources(named) if snapshot.has_key(s.secret, s.key)]
    found = [_from(source) for source in sorted(spec_sources, key=lambda s: s.input.natural_name)]
    strategies = resolution.sources([name for m in backends if (name := snapshot.references.of(m))])
    found += [_from(source) for source in sorted(strategies, key=lambda s: s.input.natural_name)]
    headers = [
        EnvSource(header_input(member, h.header), h.secret, h.key) for member in backends for h in member.secret_headers
    ]
    found += sorted(headers, key=lambda s: (s.input.natural_name, s.input.parts))
    return list({source.input: source for source in found}.values())


def assign(sources: list[EnvSource]) -> Names:
    """Name the variables of a Deployment without collisions."""
    return Names(assign_env_names(source.input for source in sources))


def _from(source: SecretSource) -> EnvSource:
    return EnvSource(source.input, source.secret, source.key)


def pod_env(
    snapshot: Snapshot, config: VmcpConfig, backends: tuple[Member, ...], sources: list[EnvSource], names: Names
) -> list[Json]:
    """Return the container's variables in the stock operator's order."""
    env: list[Json] = [_plain("VMCP_NAME", snapshot.name), _plain("VMCP_NAMESPACE", snapshot.namespace)]
    oidc = _oidc_secret(snapshot)
    env += [_secret(OIDC_CLIENT_SECRET_ENV, *oidc)] if oidc else []
    headers = [source for source in sources if source.input.purpose is SecretPurpose.HEADER_FORWARD]
    spared = snapshot.dialect is Dialect.NATIVE
    env += [_secret(names(s.input), s.secret, s.key, optional=spared) for s in sources if s not in headers]
    env += _header_env(snapshot, backends, headers, names)
    env.append(_secret(SESSION_HMAC_ENV, hmac_secret_name(snapshot.name), HMAC_KEY))
    redis = redis_password(snapshot, config)
    env += [_secret(REDIS_PASSWORD_ENV, *redis)] if redis else []
    env += _telemetry_env(snapshot)
    env += [
        _plain("XDG_CONFIG_HOME", SCRATCH),
        _plain("HOME", SCRATCH),
        _plain("TOOLHIVE_RUNTIME", "kubernetes"),
        _plain("UNSTRUCTURED_LOGS", "false"),
    ]
    if any(variable["name"].startswith(SECRET_ENV) for variable in env):
        env.append(_plain("TOOLHIVE_SECRETS_PROVIDER", "environment"))
    return env


def _header_env(snapshot: Snapshot, backends: tuple[Member, ...], headers: list[EnvSource], names: Names) -> list[Json]:
    spared = snapshot.dialect is Dialect.NATIVE
    env = [_secret(names(source.input), source.secret, source.key, optional=spared) for source in headers]
    if snapshot.dialect is Dialect.TOOLHIVE:
        env += [
            _plain(manifest_input(member).natural_name, _manifest_json(member, names))
            for member in backends
            if member.plain_headers or member.secret_headers
        ]
    return sorted(env, key=lambda variable: str(variable["name"]))


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


def _oidc_secret(snapshot: Snapshot) -> tuple[str, str] | None:
    config = snapshot.oidc_config
    if snapshot.spec.incoming_auth.type != "oidc" or config is None or isinstance(config, Unreadable):
        return None
    ref = config.spec.inline.client_secret_ref if config.spec.inline is not None else None
    return (ref.name, ref.key) if ref is not None else None


def redis_password(snapshot: Snapshot, config: VmcpConfig) -> tuple[str, str] | None:
    """Return the Secret and key of the session store's password; None when there is none."""
    if config.session_storage is None or config.session_storage.provider != "redis":
        return None
    own = snapshot.spec.session_storage
    if own is not None:
        return (own.password_ref.name, own.password_ref.key) if own.password_ref is not None else None
    default = snapshot.options.redis
    if default is not None and default.secret_name and config.session_storage.address == default.address:
        return default.secret_name, default.secret_key
    return None


def _telemetry_env(snapshot: Snapshot) -> list[Json]:
    reference, config = snapshot.spec.telemetry_config_ref, snapshot.telemetry_config
    if reference is None or config is None or isinstance(config, Unreadable):
        return []
    attributes = f"service.name={reference.service_name or snapshot.name},service.namespace={snapshot.namespace}"
    env = [_plain("OTEL_RESOURCE_ATTRIBUTES", attributes)]
    otel = config.spec.open_telemetry
    if otel is None or not otel.enabled:
        return env
    inputs = {EnvInput(SecretPurpose.OTEL_HEADER, (h.name,)): h.secret_key_ref for h in otel.sensitive_headers}
    names = assign_env_names(inputs)
    headers = [_secret(names[item], ref.name, ref.key) for item, ref in inputs.items()]
    return env + sorted(headers, key=lambda variable: str(variable["name"]))


def pod_volumes(
    snapshot: Snapshot, referenced: Referenced, backends: tuple[Member, ...]
) -> tuple[list[Json], list[Json]]:
    """Return volumes and mounts: the configuration, scratch space, then certificates sorted by name."""
    sources = {item: (config_map, key) for item, config_map, key in referenced.ca_volumes}
    for member in backends:
        if has_ca(member):
            sources[ca_volume(member)] = (member.ca_config_map, member.ca_key)
    names = assign_volume_names(sources)
    volumes: list[Json] = [
        {"name": "vmcp-config", "configMap": {"name": config_map_name(snapshot.name)}},
        {"name": "vmcp-scratch", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    mounts: list[Json] = [
        {"name": "vmcp-config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "vmcp-scratch", "mountPath": SCRATCH},
    ]
    for item in sorted(sources, key=lambda item: names[item]):
        config_map, key = sources[item]
        source: Json = {"name": config_map, "items": [{"key": key, "path": key}]}
        if item.purpose is VolumePurpose.BACKEND_CA and snapshot.dialect is Dialect.NATIVE:
            source["optional"] = True  # one member's bundle; see `_secret`
        volumes.append({"name": names[item], "configMap": source})
        mounts.append({"name": names[item], "mountPath": item.directory, "readOnly": True})
    return volumes, mounts


def referenced_secrets(env: list[Json]) -> list[str]:
    """Return the Secrets that variables name."""
    refs = (variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in env)
    return sorted({ref["name"] for ref in refs if ref})


def rotation_hash(snapshot: Snapshot, env: list[Json]) -> str:
    """Return a hash of every value of a Secret in the environment.

    Made of the values' keyed hashes; where there is no key, of the identity and version of each Secret.
    """
    own = hmac_secret_name(snapshot.name)
    parts = sorted(f"{name}/{key}={_stamp(snapshot, name, key)}" for name, key in _used(env) if name != own)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def _used(env: list[Json]) -> set[tuple[str, str]]:
    refs = (variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in env)
    return {(ref["name"], ref["key"]) for ref in refs if ref}


def _stamp(snapshot: Snapshot, secret: str, key: str) -> str:
    content = snapshot.secrets.get(secret, Unknown.MISSING)
    if snapshot.hashed and content is not Unknown.UNREAD:
        return content.digests.get(key, "") if isinstance(content, Facts) else ""
    return snapshot.secret_versions.get(secret, "")


def _plain(name: str, value: str) -> Json:
    return {"name": name, "value": value}


def _secret(name: str, secret: str, key: str, *, optional: bool = False) -> Json:
    """Return a variable that a Secret fills; without an `optional` one a pod starts all the same.

    Optional is what single members need: a Secret can go between the decision and the start of a pod, and then the
    native gateway leaves out the one backend. The stock gateway would not start either way.
    """
    reference: Json = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}
