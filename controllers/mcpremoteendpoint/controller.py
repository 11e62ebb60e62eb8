"""Watches, observes and writes MCPRemoteEndpoints; what is written is decided in `decide`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from api.conditions import MCPExternalAuthConfigCondition, VirtualMCPServerCondition
from api.v1beta1 import MCPRemoteEndpoint, MCPRemoteEndpointSpec
from controllers.mcpremoteendpoint.decide import WORDS, AuthConfig, Snapshot, conclude, decide, judge
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.content import hash_values
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.groups import group_changed_for_members, group_state
from controllers.shared.judging import Decision, RemoteReconciler, remote_depends
from controllers.shared.memo import PerVersion
from controllers.shared.proxy.proxies import PROXY_DEPENDS, ObservedProxy, Proxies, matters_to_proxies, proxy_rules
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
from runtime import Builder, Event, Key, Manager, PolicyRule, Reader, Record, Result, parse_conditions
from runtime.control.handlers import enqueue_mapped
from runtime.control.predicates import always
from runtime.util.rbac import READ

NAME = "mcpremoteendpoint"
RIVALS = (SERVER, PROXY, ENTRY)


class EndpointReconciler(RemoteReconciler):
    """Keeps the status of endpoints, and the proxies of those of type proxy."""

    def __init__(self, manager: Manager, options: OperatorOptions) -> None:
        super().__init__(manager, ENDPOINT)
        self.proxies = Proxies(manager, options, ENDPOINT, lambda _: WORDS)

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one endpoint; what was remembered of one that is gone is forgotten."""
        if self._reader.get(ENDPOINT, request) is None:
            self.proxies.forget(request)
        return await super().reconcile(request)

    async def judge(self, record: Record) -> tuple[Decision, Exception | None]:
        """Look and decide."""
        endpoint = read_endpoint(record)
        now, previous = datetime.now(UTC), parse_conditions(record.path("status.conditions"))
        generation, deleting = record.meta.generation, record.meta.deleting
        if isinstance(endpoint, Unreadable):
            snapshot = Snapshot(spec=endpoint, generation=generation, now=now, deleting=deleting, previous=previous)
            return decide(snapshot), None
        namespace, spec = record.meta.namespace, endpoint.spec
        group = group_state(self._reader, namespace, spec.group_ref.name)
        waited = self.waited(record, group, previous)
        bundle = spec.ca_bundle_ref.config_map_ref.name if spec.ca_bundle_ref is not None else ""
        seen = await self.proxies.look(record, spec) if spec.type == "proxy" else None
        material = seen.material if seen is not None else await self.material(record, spec.header_forward, bundle)
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
            proxy=seen.state if seen is not None else None,
        )
        if seen is None:
            return decide(snapshot), material.error
        decision, error = await self._proxy(record, snapshot, seen)
        return decision, material.error or error

    async def _proxy(
        self, record: Record, snapshot: Snapshot, seen: ObservedProxy
    ) -> tuple[Decision, Exception | None]:
        """Write the proxy's objects when every check passes, and say how far its pods are."""
        verdicts = judge(snapshot)
        if isinstance(verdicts, Decision):
            return verdicts, None
        fine = all(verdict.ok for verdict in verdicts) and not snapshot.deleting
        settled = await self.proxies.settle(record, seen, fine=fine)
        if settled is None:
            return Decision(), None
        return conclude(snapshot, verdicts, settled), settled.error

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


def read_endpoint(record: Record) -> MCPRemoteEndpoint | Unreadable:
    """Parse an endpoint; the API server's rule that a proxy has a proxyConfig may be older than the object."""
    endpoint = read_model(record, MCPRemoteEndpoint)
    if isinstance(endpoint, Unreadable) or endpoint.spec.type == "direct" or endpoint.spec.proxy_config is not None:
        return endpoint
    return Unreadable("proxyConfig is required when type is 'proxy'")


def _reported(gateway: Record) -> Mapping[str, str]:
    conditions = parse_conditions(gateway.path("status.conditions"))
    if any(c.type == VirtualMCPServerCondition.BACKENDS_REPORTED and c.status == "False" for c in conditions):
        return {}  # nobody says any more what it said
    found: Any = gateway.path("status.discoveredBackends")
    backends = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return {str(b.get("name") or ""): _circuit(b.get("circuitBreakerState")) for b in backends}


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
        noted=always,
        why="endpoints say whether their tool config exists, and proxies show tools by it",
    ),
    Depends(
        VMCP,
        events=circuits_changed,
        indexes={references.GROUP_REF: None},
        why="gateways report whether an endpoint's circuit is open",
    ),
    *remote_depends(RIVALS, deploys=True),
    *PROXY_DEPENDS,
)
RULES = (
    PolicyRule.of(ENDPOINT, *READ, why="the kind itself"),
    PolicyRule.of(ENDPOINT, "patch", subresource="status", why="phase, url and conditions"),
    *rules_of(DEPENDS),
    *proxy_rules(ENDPOINT),
)


def setup(manager: Manager, options: OperatorOptions) -> None:
    """Run the controller of endpoints."""
    manager.informer(ENDPOINT)
    hash_values(manager, options.pod_namespace)
    reconciler = EndpointReconciler(manager, options)
    builder = Builder(manager, NAME).for_(ENDPOINT, predicate=matters_to_proxies(reconciler.status))
    watch(builder, manager, ENDPOINT, DEPENDS, noted=enqueue_mapped(reconciler.proxies.dependencies.users))
    complete(
        builder, reconciler, manager, ENDPOINT, reconciler.status.schema, reconciler.status.repairs, concurrency=16
    )
