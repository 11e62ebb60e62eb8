"""Watches, observes and writes MCPRemoteProxies; what is written is decided in `decide`."""

from __future__ import annotations

from datetime import UTC, datetime

from api.v1beta1 import MCPRemoteProxy, MCPRemoteProxySpec
from controllers.mcpremoteproxy.decide import Snapshot, conclude, judge, words_of
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.content import hash_values
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.groups import GroupState, group_changed_for_members, group_state
from controllers.shared.judging import Decision, RemoteReconciler, remote_depends
from controllers.shared.proxy.proxies import PROXY_DEPENDS, Proxies, matters_to_proxies, proxy_rules
from controllers.shared.proxy.resolve import ProxySpec, ProxyWords
from controllers.shared.races import complete
from controllers.shared.references import came_or_went
from controllers.shared.remote import older_namesake
from controllers.shared.resources import AUTH_CONFIG, ENDPOINT, ENTRY, GROUP, PROXY, SERVER, TOOL_CONFIG
from controllers.shared.verdicts import Unreadable, read_model
from runtime import Builder, Key, Manager, PolicyRule, Record, Result, parse_conditions
from runtime.control.handlers import enqueue_mapped
from runtime.control.predicates import always
from runtime.util.rbac import READ

NAME = "mcpremoteproxy"
RIVALS = (SERVER, ENTRY, ENDPOINT)
DEPRECATED = (
    "MCPRemoteProxy is deprecated: use MCPRemoteEndpoint with type: proxy, where the settings of the proxy itself "
    "stand under proxyConfig with their names"
)


class RemoteProxyReconciler(RemoteReconciler):
    """Keeps the objects and the status of MCPRemoteProxies."""

    def __init__(self, manager: Manager, options: OperatorOptions) -> None:
        super().__init__(manager, PROXY)
        self.proxies = Proxies(manager, options, PROXY, _words)
        self._recorder = manager.recorder(f"{NAME}-controller")
        self._told: dict[Key, tuple[str, int]] = {}

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one proxy; what was remembered of one that is gone is forgotten."""
        record = self._reader.get(PROXY, request)
        if record is None:
            self.proxies.forget(request)
            self._told.pop(request, None)
        else:
            self._tell(record)
        return await super().reconcile(request)

    def _tell(self, record: Record) -> None:
        """Say that the kind is deprecated when a proxy is new, and when somebody changes it.

        A restart of the manager repeats nothing, because the status is about the present spec already.
        """
        seen = (record.meta.uid, record.meta.generation)
        if record.meta.deleting or record.path("status.observedGeneration") == record.meta.generation:
            return
        if self._told.get(record.key) == seen:  # the status may take more than one reconcile to follow
            return
        self._told[record.key] = seen
        self._recorder.event(
            record, type="Warning", reason="Deprecated", action="Reconcile", note=DEPRECATED, minor=True
        )

    async def judge(self, record: Record) -> tuple[Decision, Exception | None]:
        """Look, have the objects written when every check passes, and decide."""
        proxy = read_model(record, MCPRemoteProxy)
        now, previous = datetime.now(UTC), parse_conditions(record.path("status.conditions"))
        generation, deleting = record.meta.generation, record.meta.deleting
        if isinstance(proxy, Unreadable):
            snapshot = Snapshot(spec=proxy, generation=generation, now=now, deleting=deleting, previous=previous)
            judged = judge(snapshot)
            assert isinstance(judged, Decision)
            return judged, None
        namespace, spec = record.meta.namespace, proxy.spec
        tools, url = spec.tool_config_ref, record.path("status.url")
        seen = await self.proxies.look(record, spec)
        snapshot = Snapshot(
            spec=spec,
            generation=generation,
            now=now,
            deleting=deleting,
            group=group_state(self._reader, namespace, spec.group_ref.name)
            if spec.group_ref is not None
            else GroupState.MISSING,
            tool_config_exists=tools is not None
            and self._reader.get(TOOL_CONFIG, Key(namespace, tools.name)) is not None,
            secrets=seen.material.secrets,
            unread=seen.material.unread,
            older_namesake=older_namesake(self._reader, record, RIVALS),
            previous=previous,
            url=url if isinstance(url, str) else None,
            proxy=seen.state,
        )
        verdicts = judge(snapshot)
        if isinstance(verdicts, Decision):
            return verdicts, seen.material.error
        fine = all(verdict.ok for verdict in verdicts) and not deleting
        settled = await self.proxies.settle(record, seen, fine=fine)
        if settled is None:
            return Decision(), seen.material.error
        return conclude(snapshot, verdicts, settled), seen.material.error or settled.error


def _words(spec: ProxySpec) -> ProxyWords:
    assert isinstance(spec, MCPRemoteProxySpec)
    return words_of(spec)


DEPENDS = (
    Depends(
        GROUP,
        by=references.GROUP_REF,
        when=group_changed_for_members,
        why="proxies say whether their group exists and is Ready",
    ),
    Depends(
        AUTH_CONFIG,
        noted=references.auth_config_changed,
        why="proxies say whether their auth config exists and is valid, and apply it",
    ),
    Depends(
        TOOL_CONFIG,
        by=references.TOOL_CONFIG_REF,
        when=came_or_went,
        noted=always,
        why="proxies say whether their tool config exists, and show tools by it",
    ),
    *remote_depends(RIVALS, deploys=True),
    *PROXY_DEPENDS,
)
RULES = (
    PolicyRule.of(PROXY, *READ, why="the kind itself"),
    PolicyRule.of(PROXY, "patch", subresource="status", why="phase, url and conditions"),
    *rules_of(DEPENDS),
    *proxy_rules(PROXY),
)


def setup(manager: Manager, options: OperatorOptions) -> None:
    """Run the controller of MCPRemoteProxies."""
    manager.informer(PROXY)
    hash_values(manager, options.pod_namespace)
    reconciler = RemoteProxyReconciler(manager, options)
    builder = Builder(manager, NAME).for_(PROXY, predicate=matters_to_proxies(reconciler.status))
    watch(builder, manager, PROXY, DEPENDS, noted=enqueue_mapped(reconciler.proxies.dependencies.users))
    complete(builder, reconciler, manager, PROXY, reconciler.status.schema, reconciler.status.repairs, concurrency=16)
