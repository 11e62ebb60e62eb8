"""Watches, observes, and has written what `decide` wants."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.common.model import GROUP as API_GROUP
from api.conditions import VirtualMCPServerCondition
from api.v1beta1 import VirtualMCPServer
from controllers.options import OperatorOptions
from controllers.shared import references
from controllers.shared.content import hash_values
from controllers.shared.decided import decided
from controllers.shared.dependencies import Dependencies
from controllers.shared.depends import Depends, generates, rules_of, watch
from controllers.shared.deployed.pods import pod_depends
from controllers.shared.groups import UNJUDGED, count_unjudged, group_changed_for_members, unjudged
from controllers.shared.ownership import FIELD_MANAGER
from controllers.shared.races import complete
from controllers.shared.references import GROUP_REF
from controllers.shared.resources import (
    AUTH_CONFIG,
    AUTHZ_CONFIG,
    COMPOSITE_TOOL,
    CONFIG_MAP,
    DEPLOYMENT,
    EMBEDDING_SERVER,
    GROUP,
    MEMBER_KINDS,
    NETWORK_POLICY,
    OIDC_CONFIG,
    POD_DISRUPTION_BUDGET,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    TELEMETRY_CONFIG,
    TOOL_CONFIG,
    VMCP,
)
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import Unreadable, read_model
from controllers.shared.workload.rollout import Rollout, trimmed_deployment
from controllers.virtualmcpserver.decide import Observed, decide
from controllers.virtualmcpserver.members import awaits_verdict, is_settled, read_member
from controllers.virtualmcpserver.observe import Observer
from controllers.virtualmcpserver.pace import MANY, DecisionPace
from controllers.virtualmcpserver.publish import Publisher
from controllers.virtualmcpserver.render import STOCK_KINDS
from controllers.virtualmcpserver.report import GatewayReporter, status_view
from controllers.virtualmcpserver.tell import BackendEvents
from runtime import Builder, Event, Key, Manager, PolicyRule, Record, Result
from runtime.control.handlers import enqueue_mapped
from runtime.control.predicates import always
from runtime.util.rbac import READ, WATCH

NAME = "virtualmcpserver"

_GENERATED = (
    "generated for gateways: watched as metadata, applied when something differs, read when another operator's "
    "object is taken over"
)


class VirtualMCPServerReconciler:
    """Keeps gateways.

    Attributes:
        schema: what the installed CRD does not know.
        repairs: the rate at which a status that others change is written again.
    """

    def __init__(self, manager: Manager, options: OperatorOptions) -> None:
        self._reader = manager.reader
        self.dependencies = Dependencies()
        recorder = manager.recorder(f"{NAME}-controller")
        self._decided = decided(manager)
        self._observer = Observer(manager, options, self.dependencies)
        self._publisher = Publisher(manager, recorder, options.timing)
        self.repairs = StatusRepairs(manager, VMCP, recorder)
        self._reporter = GatewayReporter(manager.client, recorder, FIELD_MANAGER, self.repairs)
        self.schema = self._reporter.schema
        self._events = BackendEvents(recorder)
        self._users = enqueue_mapped(self.dependencies.users)
        self._pace = DecisionPace()
        self._settled: dict[Key, _Settled] = {}

    async def reconcile(self, request: Key) -> Result | None:
        """Observe, decide, write the objects, write the status."""
        record = self._reader.get(VMCP, request)
        if record is None or record.meta.deleting:
            # The garbage collector removes what the gateway owned.
            self._forget(request)
            return None
        if (rest := self._pace.rest(request)) is not None:
            return rest
        model = read_model(record, VirtualMCPServer, keep=True)
        if isinstance(model, Unreadable):
            await self._reporter.unreadable(record, model, datetime.now(UTC))
            return None
        if (wait := self._fills_up(record, model)) is not None:
            return wait
        observed, error = await self._observer.observe(record, model.spec, datetime.now(UTC))
        if error is not None and cannot_decide(observed):
            # What stands stays as it is until everything can be read.
            await self._reporter.unread(observed.present, observed.parts.subject.dialect, error)
            raise error
        if error is None and (settled := self._still_settled(request, observed)) is not None:
            return settled.rest()
        self._settled.pop(request, None)
        awaiting = sum(map(awaits_verdict, observed.parts.members))
        wait = self._pace.wait(request, written=observed.present.config_exists, awaiting=awaiting)
        if error is None and wait is not None:
            return wait
        # Processor time: a server that answers slowly, or a busy machine, is no reason to rest.
        began = time.thread_time()
        decision = decide(observed)
        took = time.thread_time() - began
        published = await self._publisher.publish(observed.present, decision)
        self._pace.decided(request, took)
        rollout = self._publisher.rollout(request)
        await self._reporter.report(observed.present, decision, published.verdict, rollout)
        if error := error or published.error:
            raise error
        if decision.report_is_current:
            self._events.look(record, observed.present.status, decision.report)
        if published.due is None and self.repairs.due_in(request) is None:
            until = math.inf if decision.look_again is None else time.monotonic() + decision.look_again
            self._settled[request] = _Settled(observed, rollout, self.schema.version, until)
        due = min((after for after in (published.due, decision.look_again) if after is not None), default=None)
        return Result(requeue_after=due) if due is not None else None

    def _fills_up(self, record: Record, model: VirtualMCPServer) -> Result | None:
        """Return when to look again while the group fills up: what an index counts need not be looked at."""
        awaiting = count_unjudged(self._reader, Key(record.meta.namespace, model.spec.group_ref.name))
        if awaiting < MANY:
            return None
        return self._pace.wait(record.key, written=self._observer.is_written(record.key), awaiting=awaiting)

    def _still_settled(self, key: Key, observed: Observed) -> _Settled | None:
        """Return the last look if nothing differs from it, and there was nothing left to do after it.

        Most wake-ups are the echo of own writes, one for each object that was written.
        """
        settled = self._settled.get(key)
        if settled is None or settled.observed != observed or time.monotonic() >= settled.until:
            return None
        if self.schema.due or self.schema.version != settled.schema:
            return None
        stands = self._publisher.stands(key) and self._publisher.rollout(key) == settled.rollout
        return settled if stands else None

    def wakes_owner(self, event: Event) -> bool:
        """Predicate for generated objects: somebody else may have changed it."""
        return not self._publisher.is_echo(event)

    def users(self, event: Event) -> Iterable[Key]:
        """Handler for what decisions looked up: whose did, without the gateway that made the object so itself."""
        found = self._users(event)
        if event.new is None or self.wakes_owner(event):
            return found
        owner = event.new.meta.controller
        return [key for key in found if owner is None or key.name != owner.name]

    def is_known(self, event: Event) -> bool:
        """Predicate for members: the watch tells of a verdict that was told when it was decided, and of no more."""
        told, new = self._decided.take(event), event.new
        return told is not None and new is not None and new.same_spec(told) and read_member(told) == read_member(new)

    def _forget(self, key: Key) -> None:
        self._observer.forget(key)
        self._publisher.forget(key)
        self.repairs.forget(key)
        self._pace.forget(key)
        self._events.forget(key)
        self._settled.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Settled:
    """A look after which there was nothing left to do.

    Attributes:
        observed: what was seen.
        rollout: how far the pods were.
        schema: version of what is known of the installed CRD.
        until: steady seconds at which time alone changes the decision.
    """

    observed: Observed
    rollout: Rollout | None
    schema: int
    until: float

    def rest(self) -> Result | None:
        """Return when to look again though nothing changed."""
        return None if self.until == math.inf else Result(requeue_after=max(self.until - time.monotonic(), 0.05))


def cannot_decide(observed: Observed) -> bool:
    """Whether what could not be read is needed.

    Without policies there is no configuration, and without the hash of a Secret's value no pod template but one that
    would roll the pods for nothing.
    """
    present = observed.present
    judged = any(condition.type == VirtualMCPServerCondition.AUTH_CONFIGURED for condition in present.previous)
    if present.policies_unread and judged:
        return True
    return present.config_exists and observed.learned.hashed and observed.learned.unread


def member_changed(event: Event) -> bool:
    """Predicate: something that matters to a gateway changed; mere times and conditions do not.

    Nor does a member that is taken as it stood until its new spec is judged, or until its URL is there again.
    """
    if event.old is None or event.new is None or event.old.path(GROUP_REF) != event.new.path(GROUP_REF):
        return True
    old, new = read_member(event.old), read_member(event.new)
    return old != new and (is_settled(new) or not is_settled(old))


def gateway_changed(event: Event) -> bool:
    """Predicate: spec, dialect or deletion, or the status as far as it is not a time stamp."""
    old, new = event.old, event.new
    if old is None or new is None:
        return True
    if old.meta.generation != new.meta.generation or old.meta.deletion_timestamp != new.meta.deletion_timestamp:
        return True
    if old.meta.annotations != new.meta.annotations:
        return True
    return status_view(_status(old)) != status_view(_status(new))


def _status(record: Record) -> dict[str, Any]:
    status = record.path("status")
    return status if isinstance(status, dict) else {}


DEPENDS = (
    Depends(GROUP, by=GROUP_REF, when=group_changed_for_members, why="a gateway waits for its group"),
    *(
        Depends(
            kind,
            by=references.members_of_group,
            when=member_changed,
            noted=references.came_or_went,  # owners of names
            indexes={GROUP_REF: None, UNJUDGED: unjudged},
            why="members become backends",
        )
        for kind in MEMBER_KINDS
    ),
    *(
        Depends(kind, verbs=WATCH, noted=always, why="referenced by gateways and their members")
        for kind in (
            AUTH_CONFIG,
            TOOL_CONFIG,
            OIDC_CONFIG,
            TELEMETRY_CONFIG,
            AUTHZ_CONFIG,
            COMPOSITE_TOOL,
            EMBEDDING_SERVER,
        )
    ),
    pod_depends("the phase of a gateway follows its pods"),
    generates(DEPLOYMENT, why=_GENERATED, transform=trimmed_deployment),
    *(
        generates(kind, why=_GENERATED)
        for kind in (SERVICE, SERVICE_ACCOUNT, ROLE, ROLE_BINDING, POD_DISRUPTION_BUDGET, NETWORK_POLICY)
    ),
    Depends(
        CONFIG_MAP,
        owned=True,
        noted=always,
        why="referenced ConfigMaps, and the gateway's own, are watched as metadata",
        content="CA bundles and policies are read by name, once per change",
    ),
    Depends(
        SECRET,
        owned=True,
        noted=always,
        why="referenced Secrets are watched as metadata: a new version rolls the pods",
        content="whether a Secret has its key is read by name, once per change",
    ),
)

RULES = (
    PolicyRule.of(VMCP, *READ, why="the kind itself"),
    PolicyRule.of(VMCP, "patch", subresource="status", why="phase and conditions"),
    *rules_of(DEPENDS),
    PolicyRule.of(VMCP, "update", subresource="finalizers", why="owner references that block the owner's deletion"),
    *(
        PolicyRule.of(kind, "delete", why="removed when the user names an account")
        for kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING)
    ),
    PolicyRule.of(POD_DISRUPTION_BUDGET, "delete", why="removed when one replica is left"),
    PolicyRule.of(NETWORK_POLICY, "delete", why="removed when a gateway no longer asks for it"),
    PolicyRule.of(CONFIG_MAP, "create", "patch", why="the gateway's configuration"),
    PolicyRule.of(SECRET, "create", why="the session Secret is made once"),
    PolicyRule.of(
        SECRET, "patch", why="a session Secret without owner, as backup tools restore it, gets its owner back"
    ),
    PolicyRule(API_GROUP, ("virtualmcpservers/status",), ("update", "patch"), "granted to gateways", granted=True),
    PolicyRule(API_GROUP, STOCK_KINDS, READ, "granted to gateways in discovered mode", granted=True),
    PolicyRule("", ("configmaps", "secrets"), READ, "granted to gateways in discovered mode", granted=True),
    PolicyRule(
        "coordination.k8s.io",
        ("leases",),
        ("get", "create", "update"),
        "granted to gateways: one replica reports",
        granted=True,
    ),
)


def setup(manager: Manager, options: OperatorOptions) -> None:
    """Run the controller of gateways."""
    manager.informer(VMCP)
    reconciler = VirtualMCPServerReconciler(manager, options)
    hash_values(manager, options.pod_namespace)
    builder = Builder(manager, NAME).for_(VMCP, predicate=gateway_changed)
    watch(
        builder, manager, VMCP, DEPENDS, noted=reconciler.users, owned=reconciler.wakes_owner, known=reconciler.is_known
    )
    gateways = references.members_of_group(manager.reader, VMCP)
    builder.watches_source(decided(manager).source, gateways, predicate=member_changed)
    complete(builder, reconciler, manager, VMCP, reconciler.schema, reconciler.repairs, concurrency=4)
