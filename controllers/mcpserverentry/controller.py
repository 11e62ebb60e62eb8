"""Watches, observes and writes MCPServerEntries; what is written is decided in `decide`."""

from __future__ import annotations

from datetime import UTC, datetime

from api.v1beta1 import MCPServerEntry
from controllers.mcpserverentry.decide import Snapshot, decide
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.content import contents
from controllers.shared.groups import GroupState, Patience, group_changed_for_members, group_state
from controllers.shared.races import complete
from controllers.shared.references import came_or_went
from controllers.shared.remote import Material, gather_material, older_namesake, secret_names
from controllers.shared.resources import AUTH_CONFIG, CONFIG_MAP, ENDPOINT, ENTRY, GROUP, SECRET
from controllers.shared.verdicts import StatusWriter, Unreadable, read_model
from runtime import Builder, Key, Manager, Record, Result, Rule, parse_conditions
from runtime.util.rbac import READ, WATCH

NAME = "mcpserverentry"

RULES = (
    Rule.of(ENTRY, *READ, why="the kind itself"),
    Rule.of(ENTRY, "patch", subresource="status", why="phase and conditions"),
    Rule.of(GROUP, *READ, why="entries say whether their group exists and is Ready"),
    Rule.of(AUTH_CONFIG, *READ, why="entries say whether their auth config exists"),
    Rule.of(ENDPOINT, *READ, why="an older endpoint of the same name wins"),
    Rule.of(SECRET, *WATCH, why="header Secrets are watched as metadata"),
    Rule.of(SECRET, "get", why="whether a header Secret has its key is read by name, once per change"),
    Rule.of(CONFIG_MAP, *WATCH, why="CA bundles are watched as metadata"),
    Rule.of(CONFIG_MAP, "get", why="whether a CA bundle holds a certificate is read by name, once per change"),
)


class EntryReconciler:
    """Keeps the status of entries. Never opens a connection to a remote server."""

    def __init__(self, manager: Manager) -> None:
        self._reader = manager.reader
        self._secrets, self._config_maps = contents(manager, SECRET), contents(manager, CONFIG_MAP)
        self._patience = Patience()
        self.status = StatusWriter(manager.client)

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one entry and write its status if that changes it."""
        record = self._reader.get(ENTRY, request)
        if record is None or record.meta.deleting:
            self._patience.forget(request)
            return None
        snapshot, error = await self._observe(record)
        decision = decide(snapshot)
        if decision.wait is not None:
            return Result(requeue_after=decision.wait)
        if decision.status is not None:
            self._patience.forget(request)
            await self.status.write(record, decision.status)
        if error is not None:
            raise error
        return None

    async def _observe(self, record: Record) -> tuple[Snapshot, Exception | None]:
        entry = read_model(record, MCPServerEntry)
        now, previous = datetime.now(UTC), parse_conditions(record.path("status.conditions"))
        generation = record.meta.generation
        if isinstance(entry, Unreadable):
            return Snapshot(spec=entry, generation=generation, now=now, previous=previous), None
        namespace, spec = record.meta.namespace, entry.spec
        group = group_state(self._reader, namespace, spec.group_ref.name)
        waited = 0.0 if previous or group is GroupState.READY else self._patience.waited(record.key)
        material = await self._material(entry, namespace)
        auth = spec.external_auth_config_ref
        snapshot = Snapshot(
            spec=spec,
            generation=generation,
            now=now,
            group=group,
            auth_config_exists=auth is not None and self._exists(namespace, auth.name),
            bundle=material.bundle,
            secrets=material.secrets,
            older_endpoint=older_namesake(self._reader, record, (ENDPOINT,)) is not None,
            previous=previous,
            waited=waited,
        )
        return snapshot, material.error

    def _exists(self, namespace: str, name: str) -> bool:
        return bool(name) and self._reader.get(AUTH_CONFIG, Key(namespace, name)) is not None

    async def _material(self, entry: MCPServerEntry, namespace: str) -> Material:
        bundle = entry.spec.ca_bundle_ref.config_map_ref if entry.spec.ca_bundle_ref is not None else None
        return await gather_material(
            namespace,
            secret_names(entry.spec.header_forward),
            bundle.name if bundle is not None else "",
            self._secrets,
            self._config_maps,
        )


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Declare what entries depend on, and run their controller."""
    references.declare_members(manager)
    references.declare_auth_configs(manager)
    manager.informer(ENTRY, indexes={references.CA_BUNDLE_REF: None, references.HEADER_SECRETS: None})
    reconciler = EntryReconciler(manager)
    reader = manager.reader
    builder = (
        Builder(manager, NAME)
        .for_(ENTRY, predicate=reconciler.status.matters)
        .watches(GROUP, references.users(reader, ENTRY, references.GROUP_REF), predicate=group_changed_for_members)
        .watches(AUTH_CONFIG, references.users(reader, ENTRY, references.AUTH_CONFIGS), predicate=came_or_went)
        .watches(CONFIG_MAP, references.users(reader, ENTRY, references.CA_BUNDLE_REF))
        .watches(SECRET, references.users(reader, ENTRY, references.HEADER_SECRETS))
        .watches(ENDPOINT, references.same_name(reader, ENTRY), predicate=came_or_went)
    )
    complete(builder, reconciler, manager, ENTRY, concurrency=16)
