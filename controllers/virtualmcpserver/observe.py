"""One look at the world for one VirtualMCPServer: four indexed look-ups, reads by name, and what was learned before.

Which Secrets and ConfigMaps matter is asked of the parts that the references come to: there is no second list of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel

from api import v1beta1
from api.contract import Dialect
from api.v1beta1 import MCPExternalAuthConfig, VirtualMCPServerSpec
from controllers.options import OperatorOptions
from controllers.shared.content import Facts, contents
from controllers.shared.decided import decided
from controllers.shared.dependencies import Dependencies
from controllers.shared.deployed.pods import pods_of
from controllers.shared.groups import group_state
from controllers.shared.parts.learned import PolicyText
from controllers.shared.parts.learning import Learning
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
    SECRET,
    TELEMETRY_CONFIG,
    TOOL_CONFIG,
    VMCP,
)
from controllers.shared.verdicts import Unreadable, read_model
from controllers.virtualmcpserver.decide import Observed
from controllers.virtualmcpserver.members import Member, read_member
from controllers.virtualmcpserver.names import HMAC_KEY, config_map_name, generated, hmac_secret_name
from controllers.virtualmcpserver.outgoing import auth_config_names
from controllers.virtualmcpserver.parts import Parts
from controllers.virtualmcpserver.resolve import resolve
from controllers.virtualmcpserver.snapshot import Present, Snapshot
from controllers.virtualmcpserver.tools import tool_config_names
from membership import Standing, disowned, is_claimed, is_judged
from runtime import Key, Manager, Record, Resource, parse_conditions

DIALECT_ANNOTATION = "toolhive.stacklok.dev/vmcp-dialect"
M = TypeVar("M", bound=BaseModel)


class Named(Protocol):
    """A reference to an object of the same namespace."""

    @property
    def name(self) -> str: ...  # noqa: D102


class Observer:
    """Looks, resolves what was seen, learns what that asks for, and notes what all of it depends on."""

    def __init__(self, manager: Manager, options: OperatorOptions, dependencies: Dependencies) -> None:
        self._reader = manager.reader
        self._decided = decided(manager)
        self._options = options
        self._learning = Learning(manager, dependencies)
        self._secrets = contents(manager, SECRET)
        self._dependencies = dependencies
        self._standing: dict[Key, Standing[str, Record]] = {}
        self._auth_configs: dict[Key, Mapping[str, MCPExternalAuthConfig | Unreadable]] = {}
        self._last: dict[Key, tuple[Snapshot, Parts]] = {}

    async def observe(
        self, record: Record, spec: VirtualMCPServerSpec, now: datetime
    ) -> tuple[Observed, Exception | None]:
        """Look at everything: the spec and its references, then the Secrets and ConfigMaps that these come to name.

        Returns:
            What was seen, and the passing error that kept something from being read: decide with what is known, then
            try again.
        """
        key, place = record.key, record.meta.namespace
        self._dependencies.forget(key)
        for kind, name in generated(key.name):
            self._note(key, kind, name)  # one that belongs to somebody else wakes the gateway when it goes
        snapshot, policy_error = await self._look(record, spec)
        parts = self._resolved(key, snapshot)
        learned, learn_error = await self._learning.learn(key, parts.secrets, parts.config_maps)
        problem, hmac_error = await self._hmac_problem(Key(place, hmac_secret_name(key.name)))
        present = Present(
            vmcp=record,
            now=now,
            previous=parse_conditions(record.path("status.conditions")),
            pods=pods_of(self._reader, VMCP, key),
            config_exists=self.is_written(key),
            hmac_problem=problem,
            policies_unread=snapshot.policy_text is PolicyText.UNREAD,
        )
        return Observed(parts=parts, learned=learned, present=present), learn_error or policy_error or hmac_error

    def is_written(self, key: Key) -> bool:
        """Whether a gateway has a configuration already."""
        return self._reader.get(CONFIG_MAP, Key(key.namespace, config_map_name(key.name))) is not None

    def _resolved(self, key: Key, snapshot: Snapshot) -> Parts:
        """Resolve the references, unless they are what they were at the last look: most wake-ups are echoes."""
        last = self._last.get(key)
        if last is None or last[0] != snapshot:
            last = self._last[key] = snapshot, resolve(snapshot)
        return last[1]

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._dependencies.forget(key)
        self._standing.pop(key, None)
        self._auth_configs.pop(key, None)
        self._last.pop(key, None)

    def _read_members(self, gateway: Key, group: str) -> tuple[Member, ...]:
        """Read the members of the group; those that did not change since the last look are not read again."""
        found = (
            (record.meta.uid, self._decided.view(record))
            for kind in MEMBER_KINDS
            for record in self._reader.by_index(kind, GROUP_REF, group, namespace=gateway.namespace)
        )
        standing = self._standing.setdefault(gateway, Standing())
        return tuple(
            disowned(member, self._rivals(gateway, member)) if is_claimed(member) else member
            for _, member in standing.look(found, read_member)
        )

    def _rivals(self, gateway: Key, member: Member) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the other objects that have a member's name; they are of other kinds."""
        key = Key(gateway.namespace, member.name)
        for rival in MEMBER_KINDS:
            other = self._reader.get(rival, key)
            if other is not None and other.meta.uid != member.uid:
                self._dependencies.note(gateway, rival, key)
                yield rival.kind, rank(other)

    async def _look(self, record: Record, spec: VirtualMCPServerSpec) -> tuple[Snapshot, Exception | None]:
        """Look up the group, its members, and every object that these or the spec name."""
        key, auth, config = record.key, spec.incoming_auth, spec.config
        dialect, unknown = choose_dialect(record, self._options)
        members = self._read_members(key, spec.group_ref.name)
        if spec.embedding_server_ref is not None:
            self._note(key, EMBEDDING_SERVER, spec.embedding_server_ref.name)
        tool_names = {*tool_config_names(config), *(member.tool_config for member in members)}
        definitions = [ref.name for ref in (config.composite_tool_refs if config is not None else ())]
        text, error = await self._learning.policy_text(key, auth.authz_config)
        snapshot = Snapshot(
            members=members,
            name=key.name,
            namespace=key.namespace,
            spec=spec,
            options=self._options,
            dialect=dialect,
            annotations=record.meta.annotations,
            unknown_dialect=unknown,
            group=group_state(self._reader, key.namespace, spec.group_ref.name),
            auth_configs=self._judged_auth_configs(key, auth_config_names(spec.outgoing_auth, members)),
            tool_configs=self._by_name(key, TOOL_CONFIG, v1beta1.MCPToolConfig, tool_names),
            composite_tools=self._by_name(key, COMPOSITE_TOOL, v1beta1.VirtualMCPCompositeToolDefinition, definitions),
            oidc_config=self._named(key, OIDC_CONFIG, v1beta1.MCPOIDCConfig, auth.oidc_config_ref),
            authz_config=self._named(key, AUTHZ_CONFIG, v1beta1.MCPAuthzConfig, auth.authz_config_ref),
            telemetry_config=self._named(key, TELEMETRY_CONFIG, v1beta1.MCPTelemetryConfig, spec.telemetry_config_ref),
            policy_text=text,
        )
        return snapshot, error

    async def _hmac_problem(self, key: Key) -> tuple[str, Exception | None]:
        """Check an existing session Secret; its value is not kept."""
        look = await self._secrets.look(key)
        if not isinstance(look.content, Facts):
            return "", look.error
        problem = look.content.sessions.get(HMAC_KEY)
        if problem is None:
            return f'it has no key "{HMAC_KEY}"', look.error
        return f"its value {problem}" if problem else "", look.error

    def _named(self, gateway: Key, kind: Resource, model: type[M], reference: Named | None) -> M | Unreadable | None:
        """Read the one object that a reference names; None when it is not there, or nothing is named."""
        return self._by_name(gateway, kind, model, [reference.name]).get(reference.name) if reference else None

    def _by_name(self, gateway: Key, kind: Resource, model: type[M], names: Iterable[str]) -> dict[str, M | Unreadable]:
        found: dict[str, M | Unreadable] = {}
        for name in sorted(set(names) - {""}):
            self._note(gateway, kind, name)
            record = self._reader.get(kind, Key(gateway.namespace, name))
            if record is not None:
                found[name] = read_model(record, model, keep=True)
        return found

    def _judged_auth_configs(self, gateway: Key, names: Iterable[str]) -> dict[str, MCPExternalAuthConfig | Unreadable]:
        """Read auth configs; one whose newest spec is not judged yet is taken as it stood when it last was."""
        known = self._auth_configs.get(gateway, {})
        found = self._by_name(gateway, AUTH_CONFIG, MCPExternalAuthConfig, names)
        for name, config in found.items():
            before = known.get(name)
            if (
                isinstance(config, MCPExternalAuthConfig)
                and isinstance(before, MCPExternalAuthConfig)
                and before.metadata.uid == config.metadata.uid
                and not is_judged(config)
            ):
                found[name] = before
        self._auth_configs[gateway] = found
        return found

    def _note(self, gateway: Key, kind: Resource, name: str) -> None:
        self._dependencies.note(gateway, kind, Key(gateway.namespace, name))


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
