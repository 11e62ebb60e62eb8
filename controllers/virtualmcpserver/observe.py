"""One look at the world for one VirtualMCPServer: four indexed look-ups, reads by name, and what was learned before."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from api import v1beta1
from api.contract import Dialect
from api.contract.strategies import secret_sources
from api.v1beta1 import MCPExternalAuthConfig, VirtualMCPServerSpec
from controllers.options import OperatorOptions
from controllers.shared.content import Content, Contents, contents
from controllers.shared.groups import group_state
from controllers.shared.references import GROUP_REF
from controllers.shared.remote import rank
from controllers.shared.resources import (
    AUTH_CONFIG,
    AUTHZ_CONFIG,
    COMPOSITE_TOOL,
    CONFIG_MAP,
    EMBEDDING_SERVER,
    MEMBER_KINDS,
    OIDC_CONFIG,
    POD,
    SECRET,
    TELEMETRY_CONFIG,
    TOOL_CONFIG,
)
from controllers.shared.verdicts import Unreadable, read_model
from controllers.virtualmcpserver.dependencies import Dependencies
from controllers.virtualmcpserver.environment import HMAC_KEY
from controllers.virtualmcpserver.members import Member, read_member
from controllers.virtualmcpserver.names import config_map_name, generated, hmac_secret_name
from controllers.virtualmcpserver.objects import hmac_problem
from controllers.virtualmcpserver.references import tool_config_names
from controllers.virtualmcpserver.rollout import count_pods
from controllers.virtualmcpserver.snapshot import PolicyText, Snapshot
from membership import Standing, disowned, is_claimed, is_judged
from runtime import ApiError, Key, Manager, NotFoundError, Record, Resource, TransportError, parse_conditions

POD_INDEX = "vmcp"
DIALECT_ANNOTATION = "toolhive.stacklok.dev/vmcp-dialect"
M = TypeVar("M", bound=BaseModel)


class Observer:
    """Builds snapshots, and notes what each of them depends on."""

    def __init__(self, manager: Manager, options: OperatorOptions, dependencies: Dependencies) -> None:
        self._reader, self._client = manager.reader, manager.client
        self._options = options
        self._secrets, self._config_maps = contents(manager, SECRET), contents(manager, CONFIG_MAP)
        self._dependencies = dependencies
        self._policies: dict[Key, tuple[str, int, Mapping[str, str]]] = {}
        self._hmac: dict[Key, tuple[str, int, str]] = {}
        self._standing: dict[Key, Standing[tuple[Resource, Key], Record]] = {}
        self._auth_configs: dict[Key, Mapping[str, MCPExternalAuthConfig | Unreadable]] = {}

    async def observe(
        self, record: Record, spec: VirtualMCPServerSpec, now: datetime
    ) -> tuple[Snapshot, Exception | None]:
        """Look at everything.

        Returns:
            The snapshot, and the passing error that kept something from being read: decide with what is known, then
            try again.
        """
        namespace = record.meta.namespace
        self._dependencies.forget(record.key)
        dialect, unknown = choose_dialect(record, self._options)
        members = self._read_members(record.key, spec.group_ref.name)
        snapshot = Snapshot(
            vmcp=record,
            spec=spec,
            options=self._options,
            dialect=dialect,
            unknown_dialect=unknown,
            now=now,
            previous=parse_conditions(record.path("status.conditions")),
            group=group_state(self._reader, namespace, spec.group_ref.name),
            members=members,
            pods=count_pods(self._reader.by_index(POD, POD_INDEX, record.meta.name, namespace=namespace)),
            config_exists=self._reader.get(CONFIG_MAP, Key(namespace, config_map_name(record.meta.name))) is not None,
        )
        for kind, name in generated(record.meta.name):
            self._note(snapshot, kind, name)  # one that belongs to somebody else wakes the gateway when it goes
        snapshot = self._with_references(snapshot)
        return await self._with_content(snapshot)

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._dependencies.forget(key)
        self._standing.pop(key, None)
        self._auth_configs.pop(key, None)

    def _read_members(self, gateway: Key, group: str) -> tuple[Member, ...]:
        """Read the members of the group; those that did not change since the last look are not read again."""
        found = (
            ((kind, record.key), record)
            for kind in MEMBER_KINDS
            for record in self._reader.by_index(kind, GROUP_REF, group, namespace=gateway.namespace)
        )
        standing = self._standing.setdefault(gateway, Standing())
        return tuple(
            disowned(member, self._rivals(gateway, kind, key)) if is_claimed(member) else member
            for (kind, key), member in standing.look(found, read_member)
        )

    def _rivals(self, gateway: Key, kind: Resource, key: Key) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the objects of other kinds that have a member's name."""
        for rival in MEMBER_KINDS:
            other = self._reader.get(rival, key) if rival != kind else None
            if other is not None:
                self._dependencies.note(gateway, rival, key)
                yield rival.kind, rank(other)

    def _with_references(self, snapshot: Snapshot) -> Snapshot:
        spec = snapshot.spec
        config, auth = spec.config, spec.incoming_auth
        auth_names = {member.auth_config for member in snapshot.members} | {snapshot.references.default}
        auth_names |= {name for name in snapshot.references.overrides.values() if name}
        tool_names = {*tool_config_names(snapshot), *(member.tool_config for member in snapshot.members)}
        definitions = [ref.name for ref in (config.composite_tool_refs if config is not None else ())]
        if spec.embedding_server_ref is not None:
            self._note(snapshot, EMBEDDING_SERVER, spec.embedding_server_ref.name)
        oidc = auth.oidc_config_ref.name if auth.oidc_config_ref is not None else ""
        authz = auth.authz_config_ref.name if auth.authz_config_ref is not None else ""
        telemetry = spec.telemetry_config_ref.name if spec.telemetry_config_ref is not None else ""
        return replace(
            snapshot,
            auth_configs=self._judged_auth_configs(snapshot, auth_names),
            tool_configs=self._by_name(snapshot, TOOL_CONFIG, v1beta1.MCPToolConfig, tool_names),
            composite_tools=self._by_name(
                snapshot, COMPOSITE_TOOL, v1beta1.VirtualMCPCompositeToolDefinition, definitions
            ),
            oidc_config=self._by_name(snapshot, OIDC_CONFIG, v1beta1.MCPOIDCConfig, [oidc]).get(oidc),
            authz_config=self._by_name(snapshot, AUTHZ_CONFIG, v1beta1.MCPAuthzConfig, [authz]).get(authz),
            telemetry_config=self._by_name(snapshot, TELEMETRY_CONFIG, v1beta1.MCPTelemetryConfig, [telemetry]).get(
                telemetry
            ),
        )

    async def _with_content(self, snapshot: Snapshot) -> tuple[Snapshot, Exception | None]:
        namespace = snapshot.namespace
        secrets, maps = secret_names(snapshot), config_map_names(snapshot)
        for name in secrets:
            self._note(snapshot, SECRET, name)
        for name in maps:
            self._note(snapshot, CONFIG_MAP, name)
        errors: list[Exception] = []

        async def look(source: Contents, names: Iterable[str]) -> dict[str, Content]:
            found = {}
            for name in names:
                answer = await source.look(Key(namespace, name))
                found[name] = answer.content
                if answer.error is not None:
                    errors.append(answer.error)
            return found

        secret_facts, map_facts = await asyncio.gather(look(self._secrets, secrets), look(self._config_maps, maps))
        policy, policy_error = await self._policy_text(snapshot)
        problem, hmac_error = await self._hmac_problem(snapshot)
        errors += [error for error in (policy_error, hmac_error) if error is not None]
        hash_key = self._secrets.hash_key
        hashed = hash_key is not None and hash_key.expected
        if hash_key is not None and not hashed:
            self._dependencies.note(snapshot.vmcp.key, SECRET, hash_key.place)
        versions = {}
        for name in secrets:
            secret = self._reader.get(SECRET, Key(namespace, name))
            if secret is not None:
                versions[name] = f"{secret.meta.uid}/{secret.meta.resource_version}"
        snapshot = replace(
            snapshot,
            secrets=secret_facts,
            config_maps=map_facts,
            secret_versions={} if hashed else versions,
            hashed=hashed,
            policy_text=policy,
            hmac_problem=problem,
        )
        return snapshot, errors[0] if errors else None

    async def _policy_text(self, snapshot: Snapshot) -> tuple[str | PolicyText | None, Exception | None]:
        """Read the ConfigMap with the policies, once per version."""
        own = snapshot.spec.incoming_auth.authz_config
        if own is None or own.config_map is None or own.type != "configMap":
            return None, None
        key = Key(snapshot.namespace, own.config_map.name)
        self._note(snapshot, CONFIG_MAP, key.name)
        record = self._reader.get(CONFIG_MAP, key)
        if record is None:
            self._policies.pop(key, None)
            return PolicyText.MISSING, None
        known = self._policies.get(key)
        error: Exception | None = None
        if known is None or known[0] != record.meta.uid or known[1] < record.version:
            try:
                live = await self._client.get_live(CONFIG_MAP, key)
            except NotFoundError:
                return PolicyText.MISSING, None
            except (ApiError, TransportError) as failure:
                error = failure
            else:
                known = (live.meta.uid, live.version, live.path("data") or {})
                self._policies[key] = known
        if known is None:
            return PolicyText.UNREAD, error
        return known[2].get(own.config_map.key, PolicyText.NO_KEY), error

    async def _hmac_problem(self, snapshot: Snapshot) -> tuple[str, Exception | None]:
        """Check an existing session Secret, once per version; its value is not kept."""
        key = Key(snapshot.namespace, hmac_secret_name(snapshot.name))
        record = self._reader.get(SECRET, key)
        if record is None:
            self._hmac.pop(key, None)
            return "", None
        known = self._hmac.get(key)
        if known is not None and known[0] == record.meta.uid and known[1] >= record.version:
            return known[2], None
        try:
            live = await self._client.get_live(SECRET, key)
        except NotFoundError:
            return "", None
        except (ApiError, TransportError) as error:
            return "", error
        problem = hmac_problem(_decoded((live.path("data") or {}).get(HMAC_KEY)))
        self._hmac[key] = (live.meta.uid, live.version, problem)
        return problem, None

    def _by_name(
        self, snapshot: Snapshot, kind: Resource, model: type[M], names: Iterable[str]
    ) -> dict[str, M | Unreadable]:
        found: dict[str, M | Unreadable] = {}
        for name in sorted(set(names) - {""}):
            self._note(snapshot, kind, name)
            record = self._reader.get(kind, Key(snapshot.namespace, name))
            if record is not None:
                found[name] = read_model(record, model)
        return found

    def _judged_auth_configs(
        self, snapshot: Snapshot, names: Iterable[str]
    ) -> dict[str, MCPExternalAuthConfig | Unreadable]:
        """Read auth configs; one whose newest spec is not judged yet is taken as it stood when it last was."""
        known = self._auth_configs.get(snapshot.vmcp.key, {})
        found = self._by_name(snapshot, AUTH_CONFIG, MCPExternalAuthConfig, names)
        for name, config in found.items():
            before = known.get(name)
            if (
                isinstance(config, MCPExternalAuthConfig)
                and isinstance(before, MCPExternalAuthConfig)
                and before.metadata.uid == config.metadata.uid
                and not is_judged(config)
            ):
                found[name] = before
        self._auth_configs[snapshot.vmcp.key] = found
        return found

    def _note(self, snapshot: Snapshot, kind: Resource, name: str) -> None:
        self._dependencies.note(snapshot.vmcp.key, kind, Key(snapshot.namespace, name))


def choose_dialect(record: Record, options: OperatorOptions) -> tuple[Dialect, str]:
    """Return the dialect of a gateway, and what the annotation says when that is no dialect."""
    default = Dialect(options.vmcp_dialect)
    wanted = record.meta.annotations.get(DIALECT_ANNOTATION, "")
    if not wanted:
        return default, ""
    try:
        return Dialect(wanted), ""
    except ValueError:
        return default, wanted


def secret_names(snapshot: Snapshot) -> list[str]:
    """Return the Secrets of which keys and versions matter."""
    names = {header.secret for member in snapshot.members for header in member.secret_headers}
    for name, config in snapshot.auth_configs.items():
        if not isinstance(config, Unreadable):
            names |= {source.secret for source in secret_sources(name, config.spec)}
    oidc, telemetry = snapshot.oidc_config, snapshot.telemetry_config
    if oidc is not None and not isinstance(oidc, Unreadable) and oidc.spec.inline is not None:
        ref = oidc.spec.inline.client_secret_ref
        names |= {ref.name} if ref is not None else set()
    if telemetry is not None and not isinstance(telemetry, Unreadable) and telemetry.spec.open_telemetry is not None:
        names |= {header.secret_key_ref.name for header in telemetry.spec.open_telemetry.sensitive_headers}
    storage, redis = snapshot.spec.session_storage, snapshot.options.redis
    if storage is not None and storage.password_ref is not None:
        names.add(storage.password_ref.name)
    elif redis is not None:
        names.add(redis.secret_name)
    return sorted(names - {""})


def config_map_names(snapshot: Snapshot) -> list[str]:
    """Return the ConfigMaps with certificates."""
    names = {member.ca_config_map for member in snapshot.members}
    oidc, telemetry = snapshot.oidc_config, snapshot.telemetry_config
    if oidc is not None and not isinstance(oidc, Unreadable) and oidc.spec.inline is not None:
        source = oidc.spec.inline.ca_bundle_ref
        names |= {source.config_map_ref.name} if source is not None and source.config_map_ref is not None else set()
    if telemetry is not None and not isinstance(telemetry, Unreadable) and telemetry.spec.open_telemetry is not None:
        source = telemetry.spec.open_telemetry.ca_bundle_ref
        names |= {source.config_map_ref.name} if source is not None and source.config_map_ref is not None else set()
    return sorted(names - {""})


def _decoded(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return None
