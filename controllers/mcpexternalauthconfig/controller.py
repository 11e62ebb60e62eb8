"""Watches, observes and writes MCPExternalAuthConfigs; what is written is decided in `decide`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import orjson

from api.v1beta1 import MCPExternalAuthConfig
from controllers.mcpexternalauthconfig.decide import Snapshot, decide
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.finalizers import hold
from controllers.shared.races import complete
from controllers.shared.references import AUTH_CONFIG_USERS, AUTH_CONFIGS, auth_configs_of
from controllers.shared.resources import AUTH_CONFIG
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import StatusWriter, Unreadable, read_model
from runtime import (
    Builder,
    Event,
    Key,
    Manager,
    Record,
    Result,
    Rule,
    parse_conditions,
    remove_finalizer,
)
from runtime.util.rbac import READ

NAME = "mcpexternalauthconfig"
FINALIZER = "mcpexternalauthconfig.toolhive.stacklok.dev/finalizer"

RULES = (
    Rule.of(AUTH_CONFIG, *READ, "patch", why="the kind itself, and its finalizer"),
    Rule.of(AUTH_CONFIG, "patch", subresource="status", why="conditions and hash"),
    *(Rule.of(kind, *READ, why="a deletion waits for all that refer to it") for kind in AUTH_CONFIG_USERS),
)


class AuthConfigReconciler:
    """Keeps the status of auth configs, and holds those that are in use. Secrets that they name are not looked at."""

    def __init__(self, manager: Manager) -> None:
        self._reader, self._client = manager.reader, manager.client
        self._recorder = manager.recorder(f"{NAME}-controller")
        self.status = StatusWriter(manager.client, AUTH_CONFIG, StatusRepairs(manager, AUTH_CONFIG, self._recorder))

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one auth config, write its status if that changes it, let it go when nobody refers to it."""
        record = self._reader.get(AUTH_CONFIG, request)
        if record is not None and not record.meta.deleting:
            record = await hold(self._client, record, FINALIZER)
        if record is None or FINALIZER not in record.meta.finalizers:
            return None
        decision = decide(self._observe(record))
        if decision.release:
            await remove_finalizer(self._client, record, FINALIZER)
        if decision.status is not None:
            await self.status.write(record, decision.status)
        for said in decision.announcements:
            self._recorder.event(record, type=said.type, reason=said.reason, action=said.action, note=said.note)
        return None

    def _observe(self, record: Record) -> Snapshot:
        config = read_model(record, MCPExternalAuthConfig)
        spec = config if isinstance(config, Unreadable) else config.spec
        known = record.path("status.configHash")
        return Snapshot(
            name=record.meta.name,
            spec=spec,
            spec_hash=hash_of(record),
            known_hash=known if isinstance(known, str) else None,
            generation=record.meta.generation,
            now=datetime.now(UTC),
            deleting=record.meta.deleting,
            referrers=self._referrers(record.key) if record.meta.deleting else (),
            previous=parse_conditions(record.path("status.conditions")),
        )

    def _referrers(self, config: Key) -> tuple[str, ...]:
        return tuple(
            f"{kind.kind}/{user.meta.name}"
            for kind in AUTH_CONFIG_USERS
            for user in self._reader.by_index(kind, AUTH_CONFIGS, config.name, namespace=config.namespace)
        )

    def waiting(self, user: Record) -> Iterable[Key]:
        """Map an object to the auth configs that it names and whose deletion waits."""
        for name in auth_configs_of(user):
            key = Key(user.meta.namespace, name)
            config = self._reader.get(AUTH_CONFIG, key)
            if config is not None and config.meta.deleting:
                yield key


def hash_of(record: Record) -> str:
    """Return a hash of the spec; the order of its keys does not count."""
    return hashlib.sha256(orjson.dumps(record.path("spec"), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def references_changed(event: Event) -> bool:
    """Predicate: the object came, went, or refers to other auth configs than before."""
    old, new = event.old, event.new
    if old is None or new is None:
        return True
    return not new.same_spec(old) and auth_configs_of(old) != auth_configs_of(new)


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Declare what auth configs depend on, and run their controller."""
    references.declare_auth_configs(manager)
    reconciler = AuthConfigReconciler(manager)
    builder = Builder(manager, NAME).for_(AUTH_CONFIG, predicate=reconciler.status.matters)
    for kind in AUTH_CONFIG_USERS:
        builder = builder.watches(kind, reconciler.waiting, predicate=references_changed)
    complete(builder, reconciler, manager, AUTH_CONFIG, reconciler.status.schema, reconciler.status.repairs)
