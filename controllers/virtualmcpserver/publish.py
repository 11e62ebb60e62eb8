"""Writes what was decided: objects in an order in which pods can start, status last, events for what changed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Dialect
from controllers.shared.apply import Applied, Applier, ForeignObjectError, intent_hash, is_refusal
from controllers.shared.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD_DISRUPTION_BUDGET,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from controllers.shared.verdicts import Verdict
from controllers.virtualmcpserver.decide import Decision
from controllers.virtualmcpserver.deployment import with_session_secret, without_rotation
from controllers.virtualmcpserver.environment import Json
from controllers.virtualmcpserver.names import disruption_budget_name, generated, hmac_secret_name, identity_name
from controllers.virtualmcpserver.objects import desired_hmac_secret
from controllers.virtualmcpserver.snapshot import Snapshot
from runtime import AlreadyExistsError, ApiError, Key, Manager, NotFoundError, Record, Recorder, Resource
from runtime.util.owner import is_controlled_by, set_controller_reference

QUIET = 2.0
"""Seconds without a further change after which changed pods are rolled; a burst of changes is one rollout."""
LONGEST_WAIT = 15.0
"""Seconds after which pods are rolled even if changes keep coming."""
SPACING = 2.0
"""Seconds after a rollout in which a rotated Secret waits as other changes do; later it rolls the pods at once."""

_BY_KIND = {
    "ServiceAccount": SERVICE_ACCOUNT,
    "Role": ROLE,
    "RoleBinding": ROLE_BINDING,
    "ConfigMap": CONFIG_MAP,
    "Service": SERVICE,
    "Deployment": DEPLOYMENT,
    "PodDisruptionBudget": POD_DISRUPTION_BUDGET,
}


@dataclass
class _Waiting:
    """A rollout that waits for the changes to calm down."""

    since: float
    changed: float
    body: Json


@dataclass(frozen=True)
class _Done:
    """What a `publish` that wrote everything left behind, besides what every gateway has."""

    secret: Record
    """The session Secret, which is made once and not applied."""
    disruption_budget: bool


class Publisher:
    """Writes objects of gateways.

    Args:
        manager: for the client.
        recorder: for events.
        clock: seconds, monotonic.
    """

    def __init__(self, manager: Manager, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._reader = manager.client, manager.reader
        self._applier = Applier(manager)
        self._recorder = recorder
        self._clock = clock
        self._waiting: dict[Key, _Waiting] = {}
        self._generation: dict[Key, int] = {}
        self._rolled: dict[Key, tuple[float, str]] = {}
        self._done: dict[Key, _Done] = {}

    def stands(self, key: Key) -> bool:
        """Whether the last `publish` of a gateway wrote everything, and nobody touched any of it since."""
        done = self._done.get(key)
        if done is None or self._reader.get(SECRET, done.secret.key) != done.secret:
            return False
        applied = [(kind, name) for kind, name in generated(key.name) if kind != SECRET]
        if done.disruption_budget:
            applied.append((POD_DISRUPTION_BUDGET, disruption_budget_name(key.name)))
        return all(self._applier.stands(kind, Key(key.namespace, name)) for kind, name in applied)

    async def publish(self, snapshot: Snapshot, decision: Decision) -> tuple[Verdict | None, float | None]:
        """Write the objects.

        Returns:
            The verdict about writing (None when there was nothing to write), and the seconds after which a rollout
            that waits is due.

        Raises:
            ApiError, TransportError: for a passing reason; try again.
        """
        intents = decision.intents
        self._done.pop(snapshot.vmcp.key, None)
        if snapshot.hmac_problem:
            message = f"Secret {snapshot.name}-hmac-secret: {snapshot.hmac_problem}"
            self._warn(snapshot.vmcp, "HMACSecretValidationFailed", "ValidateSecret", message)
            return Verdict(T.OBJECTS_APPLIED, False, R.HMAC_SECRET_INVALID, message), None
        if intents.deployment is None or intents.config_map is None or intents.service is None:
            return None, None
        owner = snapshot.vmcp
        due: float | None = None
        try:
            await self._identity(snapshot, intents.identity)
            secret = await self._hmac_secret(snapshot)
            await self._apply(intents.config_map, owner)
            deployment = intents.deployment
            if snapshot.dialect is Dialect.NATIVE:  # the stock gateway does not use the Secret
                deployment = with_session_secret(deployment, secret)
            due = await self._deployment(snapshot, deployment)
            await self._apply(intents.service, owner)
            await self._disruption_budget(snapshot, intents.disruption_budget)
        except ForeignObjectError as error:
            return Verdict(T.OBJECTS_APPLIED, False, R.FOREIGN_OBJECT, str(error)), due
        except ApiError as error:
            if not is_refusal(error):
                raise
            self._warn(owner, "DeploymentUpdateFailed", "Apply", error.message)
            return Verdict(T.OBJECTS_APPLIED, False, R.OBJECT_REFUSED, error.message), due
        if due is None and intents.identity:
            self._done[owner.key] = _Done(secret, disruption_budget=intents.disruption_budget is not None)
        return Verdict(T.OBJECTS_APPLIED, True, R.OBJECTS_APPLIED, "every generated object is as it should be"), due

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._waiting.pop(key, None)
        self._generation.pop(key, None)
        self._rolled.pop(key, None)
        self._done.pop(key, None)
        self._applier.forget(key)

    async def _identity(self, snapshot: Snapshot, bodies: tuple[Json, ...]) -> None:
        for body in bodies:
            await self._apply(body, snapshot.vmcp)
        if bodies:
            return
        # The user names an account: what was made for the gateway before is not needed any more.
        for resource in (ROLE_BINDING, ROLE, SERVICE_ACCOUNT):
            await self._drop(snapshot, resource, identity_name(snapshot.name))

    async def _disruption_budget(self, snapshot: Snapshot, body: Json | None) -> None:
        if body is not None:
            await self._apply(body, snapshot.vmcp)
        else:
            await self._drop(snapshot, POD_DISRUPTION_BUDGET, disruption_budget_name(snapshot.name))

    async def _drop(self, snapshot: Snapshot, resource: Resource, name: str) -> None:
        """Remove an object of ours that is not wanted any more."""
        live = self._reader.get(resource, Key(snapshot.namespace, name))
        if live is not None and is_controlled_by(live.meta, snapshot.vmcp):
            await self._delete(resource, live)

    async def _delete(self, resource: Resource, live: Record) -> None:
        try:
            await self._client.delete(resource, live.key, uid=live.meta.uid)
        except NotFoundError:
            return

    async def _hmac_secret(self, snapshot: Snapshot) -> Record:
        """Make the session Secret once and return it; its value is never read back or changed."""
        key = Key(snapshot.namespace, hmac_secret_name(snapshot.name))
        live = self._reader.get(SECRET, key)
        if live is None:
            body = desired_hmac_secret(snapshot, secrets.token_bytes(32))
            set_controller_reference(snapshot.vmcp, body, SECRET)
            try:
                record = await self._client.create(SECRET, body)
            except AlreadyExistsError:
                record = await self._client.get_live(SECRET, key)
            else:
                self._say(snapshot.vmcp, "HMACSecretCreated", "Create", f"Secret {key.name} created")
            live = record
        if not is_controlled_by(live.meta, snapshot.vmcp):
            holder = live.meta.controller
            raise ForeignObjectError(SECRET, key, f"{holder.kind} {holder.name}" if holder is not None else "")
        return live

    async def _deployment(self, snapshot: Snapshot, body: Json) -> float | None:
        """Apply the Deployment, or wait until a burst of changes is over; return the seconds to wait."""
        owner, key = snapshot.vmcp, snapshot.vmcp.key
        asked = self._generation.get(key) != owner.meta.generation
        if not asked and self._must_wait(key, body, owner):
            waiting, now = self._waiting[key], self._clock()
            return max(0.05, min(waiting.changed + QUIET, waiting.since + LONGEST_WAIT) - now)
        self._waiting.pop(key, None)
        await self._apply(body, owner)
        self._generation[key] = owner.meta.generation
        self._rolled[key] = self._clock(), intent_hash(without_rotation(body))
        return None

    def _must_wait(self, key: Key, body: Json, owner: Record) -> bool:
        live = self._reader.get(DEPLOYMENT, Key(key.namespace, body["metadata"]["name"]))
        # A Deployment that is missing or was edited is repaired at once; only a new wish of ours waits.
        if live is None or self._applier.intends(DEPLOYMENT, body, owner):
            return False
        now = self._clock()
        rolled, before = self._rolled.get(key, (now, ""))
        if now - rolled >= SPACING and before == intent_hash(without_rotation(body)):
            # A rotated Secret alone: whoever revokes a credential must not wait. A second one soon after does.
            return False
        waiting = self._waiting.setdefault(key, _Waiting(now, now, body))
        if waiting.body != body:
            waiting.body, waiting.changed = body, now
        return now < min(waiting.changed + QUIET, waiting.since + LONGEST_WAIT)

    async def _apply(self, body: Json, owner: Record) -> Applied:
        kind = str(body["kind"])
        applied = await self._applier.apply(_BY_KIND[kind], body, owner)
        name = body["metadata"]["name"]
        if kind in ("Deployment", "Service") and applied.created:
            self._say(owner, f"{kind}Created", "Create", f"{kind} {name} created")
        elif kind == "Deployment" and applied.updated:
            self._say(owner, "DeploymentUpdated", "Update", f"Deployment {name} updated")
        return applied

    def _say(self, record: Record, reason: str, action: str, note: str) -> None:
        self._recorder.event(record, type="Normal", reason=reason, action=action, note=note)

    def _warn(self, record: Record, reason: str, action: str, note: str) -> None:
        self._recorder.event(record, type="Warning", reason=reason, action=action, note=note)
