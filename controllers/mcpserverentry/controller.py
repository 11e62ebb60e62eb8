"""Watches, observes and writes MCPServerEntries; what is written is decided in `decide`."""

from __future__ import annotations

from datetime import UTC, datetime

from api.v1beta1 import MCPServerEntry
from controllers.mcpserverentry.decide import Snapshot, decide
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.depends import Depends, rules_of, watch
from controllers.shared.groups import group_changed_for_members, group_state
from controllers.shared.judging import Decision, RemoteReconciler, remote_depends
from controllers.shared.races import complete
from controllers.shared.references import came_or_went
from controllers.shared.remote import older_namesake
from controllers.shared.resources import AUTH_CONFIG, ENDPOINT, ENTRY, GROUP, PROXY, SERVER
from controllers.shared.verdicts import Unreadable, read_model
from runtime import Builder, Key, Manager, PolicyRule, Record, parse_conditions
from runtime.util.rbac import READ

NAME = "mcpserverentry"
RIVALS = (SERVER, PROXY, ENDPOINT)

DEPENDS = (
    Depends(
        GROUP,
        by=references.GROUP_REF,
        when=group_changed_for_members,
        why="entries say whether their group exists and is Ready",
    ),
    Depends(
        AUTH_CONFIG,
        by=references.AUTH_CONFIGS,
        when=came_or_went,
        why="entries say whether their auth config exists",
    ),
    *remote_depends(RIVALS),
)
RULES = (
    PolicyRule.of(ENTRY, *READ, why="the kind itself"),
    PolicyRule.of(ENTRY, "patch", subresource="status", why="phase and conditions"),
    *rules_of(DEPENDS),
)


class EntryReconciler(RemoteReconciler):
    """Keeps the status of entries."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager, ENTRY)

    async def judge(self, record: Record) -> tuple[Decision, Exception | None]:
        """Look and decide; an entry that is being deleted is left alone."""
        if record.meta.deleting:
            return Decision(), None
        entry = read_model(record, MCPServerEntry)
        now, previous = datetime.now(UTC), parse_conditions(record.path("status.conditions"))
        generation = record.meta.generation
        if isinstance(entry, Unreadable):
            return decide(Snapshot(spec=entry, generation=generation, now=now, previous=previous)), None
        namespace, spec = record.meta.namespace, entry.spec
        group = group_state(self._reader, namespace, spec.group_ref.name)
        waited = self.waited(record, group, previous)
        bundle = spec.ca_bundle_ref.config_map_ref if spec.ca_bundle_ref is not None else None
        material = await self.material(record, spec.header_forward, bundle.name if bundle is not None else "")
        auth = spec.external_auth_config_ref
        snapshot = Snapshot(
            spec=spec,
            generation=generation,
            now=now,
            group=group,
            auth_config_exists=auth is not None and self._exists(namespace, auth.name),
            bundle=material.bundle,
            secrets=material.secrets,
            unread=material.unread,
            older_namesake=older_namesake(self._reader, record, RIVALS),
            previous=previous,
            waited=waited,
        )
        return decide(snapshot), material.error

    def _exists(self, namespace: str, name: str) -> bool:
        return bool(name) and self._reader.get(AUTH_CONFIG, Key(namespace, name)) is not None


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Run the controller of entries."""
    manager.informer(ENTRY)
    reconciler = EntryReconciler(manager)
    builder = Builder(manager, NAME).for_(ENTRY, predicate=reconciler.status.matters)
    watch(builder, manager, ENTRY, DEPENDS)
    complete(builder, reconciler, manager, ENTRY, reconciler.status.schema, reconciler.status.repairs, concurrency=16)
