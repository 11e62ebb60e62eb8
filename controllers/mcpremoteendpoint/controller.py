"""Watches, observes and writes MCPRemoteEndpoints; what is written is decided in `decide`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from api.conditions import MCPExternalAuthConfigCondition, VirtualMCPServerCondition
from api.v1beta1 import MCPRemoteEndpoint, MCPRemoteEndpointSpec
from controllers.mcpremoteendpoint.decide import AuthConfig, Snapshot, decide
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.groups import group_changed_for_members, group_state
from controllers.shared.judging import Decision, RemoteReconciler, remote_depends
from controllers.shared.memo import PerVersion
from controllers.shared.races import complete
from controllers.shared.references import came_or_went
from controllers.shared.remote import older_namesake
from controllers.shared.resources import (
    AUTH_CONFIG,
    ENDPOINT,
    ENTRY,
    GROUP,
    PROXY,
    SERVER,
    TOOL_CONFIG,
    VMCP,
)
from controllers.shared.verdicts import Unreadable, read_model
from runtime import Builder, Event, Key, Manager, Reader, Record, Rule, parse_conditions
from runtime.util.rbac import READ

NAME = "mcpremoteendpoint"
RIVALS = (SERVER, PROXY, ENTRY)


class EndpointReconciler(RemoteReconciler):
    """Keeps the status of endpoints of type direct."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, ENDPOINT)

    async def judge(self, record: Record) -> tuple[Decision, Exception | None]:
        """Look and decide."""
        endpoint = read_model(record, MCPRemoteEndpoint)
        now, previous = datetime.now(UTC), parse_conditions(record.path("status.conditions"))
        generation, deleting = record.meta.generation, record.meta.deleting
        if isinstance(endpoint, Unreadable):
            snapshot = Snapshot(spec=endpoint, generation=generation, now=now, deleting=deleting, previous=previous)
            return decide(snapshot), None
        namespace, spec = record.meta.namespace, endpoint.spec
        group = group_state(self._reader, namespace, spec.group_ref.name)
        waited = self.waited(record, group, previous)
        bundle = spec.ca_bundle_ref.config_map_ref.name if spec.ca_bundle_ref is not None else ""
        material = await self.material(record, spec.header_forward, bundle)
        tools = spec.tool_config_ref
        snapshot = Snapshot(
            spec=spec,
            generation=generation,
            now=now,
            deleting=deleting,
            group=group,
            auth_config=self._auth_config(namespace, spec),
            tool_config_exists=tools is not None
            and self._reader.get(TOOL_CONFIG, Key(namespace, tools.name)) is not None,
            bundle=material.bundle,
            secrets=material.secrets,
            unread=material.unread,
            older_namesake=older_namesake(self._reader, record, RIVALS),
            open_circuits=open_circuits(self._reader, record.key, spec.group_ref.name),
            previous=previous,
            waited=waited,
        )
        return decide(snapshot), material.error

    def _auth_config(self, namespace: str, spec: MCPRemoteEndpointSpec) -> AuthConfig | None:
        ref = spec.external_auth_config_ref
        found = self._reader.get(AUTH_CONFIG, Key(namespace, ref.name)) if ref is not None else None
        if found is None:
            return None
        valid = MCPExternalAuthConfigCondition.VALID
        problems = (
            c.message
            for c in parse_conditions(found.path("status.conditions"))
            if c.type == valid and c.status == "False"
        )
        return AuthConfig(str(found.path("spec.type") or ""), next(problems, None))


def _reported(gateway: Record) -> Mapping[str, str]:
    conditions = parse_conditions(gateway.path("status.conditions"))
    if any(c.type == VirtualMCPServerCondition.BACKENDS_REPORTED and c.status == "False" for c in conditions):
        return {}  # nobody says any more what it said
    found: Any = gateway.path("status.discoveredBackends")
    return {b.get("name", ""): _circuit(b.get("circuitBreakerState")) for b in found or () if isinstance(b, dict)}


def _circuit(state: object) -> str:
    """Return `open` for a half-open circuit, too: a backend that may be tried once a minute has not recovered."""
    return "open" if state in ("open", "half-open") else "closed"


reports = PerVersion(_reported)
"""What a running gateway reports of its backends: their names and the states of their circuits. Each of them asks."""


def open_circuits(reader: Reader, endpoint: Key, group: str) -> tuple[str, ...]:
    """Return the gateways that serve an endpoint, if all of them report its circuit open; else nothing."""
    gateways = reader.by_index(VMCP, references.GROUP_REF, group, namespace=endpoint.namespace)
    states = {g.meta.name: state for g in gateways if (state := reports(g).get(endpoint.name)) is not None}
    return tuple(states) if states and set(states.values()) == {"open"} else ()


def circuits_changed(event: Event) -> Iterable[Key]:
    """Map a gateway's report to the backends whose circuits opened, or are no longer open, or are no longer served."""
    before: Mapping[str, str] = reports(event.old) if event.old is not None else {}
    after: Mapping[str, str] = reports(event.new) if event.new is not None else {}
    changed = (n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    namespace = event.record.meta.namespace
    return [Key(namespace, name) for name in sorted(changed) if name]


DEPENDS = (
    Depends(
        GROUP,
        by=references.GROUP_REF,
        when=group_changed_for_members,
        why="endpoints say whether their group exists and is Ready",
    ),
    Depends(
        AUTH_CONFIG,
        by=references.AUTH_CONFIGS,
        when=references.auth_config_changed,
        why="endpoints say whether their auth config exists and is valid",
    ),
    Depends(
        TOOL_CONFIG,
        by=references.TOOL_CONFIG_REF,
        when=came_or_went,
        why="endpoints say whether their tool config exists",
    ),
    Depends(
        VMCP,
        events=circuits_changed,
        indexes={references.GROUP_REF: None},
        why="gateways report whether an endpoint's circuit is open",
    ),
    *remote_depends(RIVALS),
)
RULES = (
    Rule.of(ENDPOINT, *READ, why="the kind itself"),
    Rule.of(ENDPOINT, "patch", subresource="status", why="phase, url and conditions"),
    *rules_of(DEPENDS),
)


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Run the controller of endpoints."""
    manager.informer(ENDPOINT)
    reconciler = EndpointReconciler(manager)
    builder = Builder(manager, NAME).for_(ENDPOINT, predicate=reconciler.status.matters)
    watch(builder, manager, ENDPOINT, DEPENDS)
    complete(
        builder, reconciler, manager, ENDPOINT, reconciler.status.schema, reconciler.status.repairs, concurrency=16
    )
