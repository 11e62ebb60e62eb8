"""Writes what was decided: objects in an order in which pods can start, status last, events for what changed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Dialect
from controllers.shared.content import Facts, contents
from controllers.shared.contests import Contest, Hindrance
from controllers.shared.ownership import Entitlement, claim
from controllers.shared.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from controllers.shared.timing import Timing
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.apply import Applied, intent_hash
from controllers.shared.workload.manifest import Json
from controllers.shared.workload.rollout import Rollout
from controllers.shared.workload.writing import RETRY, Writer, WriteResult, leaving
from controllers.virtualmcpserver.conclude import GatewayDecision
from controllers.virtualmcpserver.deployment import with_session_secret, without_rotation
from controllers.virtualmcpserver.names import (
    HMAC_KEY,
    disruption_budget_name,
    generated,
    hmac_secret_name,
    identity_name,
    network_policy_name,
)
from controllers.virtualmcpserver.render import Intents, desired_hmac_secret
from controllers.virtualmcpserver.snapshot import Present
from runtime import (
    AlreadyExistsError,
    ApiError,
    Event,
    Key,
    Manager,
    Record,
    Recorder,
    Resource,
    TransportError,
)
from runtime.util.owner import controller_reference, set_controller_reference

MOMENT = 0.05
"""Seconds after which objects are looked at again that somebody else changed while they were written."""

_BY_KIND = {
    "ServiceAccount": SERVICE_ACCOUNT,
    "Role": ROLE,
    "RoleBinding": ROLE_BINDING,
    "ConfigMap": CONFIG_MAP,
    "Service": SERVICE,
    "Deployment": DEPLOYMENT,
    "PodDisruptionBudget": POD_DISRUPTION_BUDGET,
    "NetworkPolicy": NETWORK_POLICY,
}
_REASONS = {
    WriteResult.ALL: R.OBJECTS_APPLIED,
    WriteResult.FOREIGN: R.FOREIGN_OBJECT,
    WriteResult.REFUSED: R.OBJECT_REFUSED,
    WriteResult.CONTESTED: R.CONTESTED,
    WriteResult.FAILED: R.APPLY_FAILED,
}


@dataclass(frozen=True)
class _Done:
    """What a `publish` that wrote everything left behind, besides what every gateway has."""

    secret: Record
    """The session Secret, which is made once and not applied."""
    optional: tuple[tuple[Resource, str], ...]
    """Kind and name of objects that only some gateways have."""


@dataclass
class _Writing:
    """What is noted while objects are written."""

    secret: Record | None = None
    due: float | None = None
    met: list[Hindrance] = field(default_factory=list)


class _HeldError(Exception):
    """An object without which nothing else makes sense is missing, and its repair waits."""

    def __init__(self, contest: Contest) -> None:
        super().__init__(str(contest))
        self.contest = contest


@dataclass(frozen=True)
class Published:
    """The outcome of writing a gateway's objects.

    Attributes:
        verdict: about the writing; None when there was nothing to write.
        due: seconds after which to look again: what waits, or was refused; None for never.
        error: what did not work for a passing reason: report first, then try again.
    """

    verdict: Verdict | None
    due: float | None = None
    error: ApiError | TransportError | None = None


class Publisher:
    """Writes objects of gateways.

    Args:
        manager: for the client.
        recorder: for events.
        timing: of rollouts and repairs.
        clock: seconds, monotonic.
    """

    def __init__(
        self, manager: Manager, recorder: Recorder, timing: Timing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._reader = manager.client, manager.reader
        self._contents = contents(manager, SECRET)
        self._writer = Writer(manager, recorder, timing, clock)
        self._recorder = recorder
        self._done: dict[Key, _Done] = {}

    def stands(self, key: Key) -> bool:
        """Whether the last `publish` of a gateway wrote everything, and nobody touched any of it since."""
        done = self._done.get(key)
        if done is None or self._reader.get(SECRET, done.secret.key) != done.secret:
            return False
        applied = [(kind, name) for kind, name in generated(key.name) if kind != SECRET]
        return all(
            self._writer.applier.stands(kind, Key(key.namespace, name)) for kind, name in (*applied, *done.optional)
        )

    def is_echo(self, event: Event) -> bool:
        """Whether an event tells nothing but what the gateway itself wrote last: most events of its objects are."""
        return event.new is not None and not event.initial and self._writer.applier.left(event.new)

    async def publish(self, present: Present, decision: GatewayDecision) -> Published:
        """Write the objects.

        What the server refuses, and what it cannot do at the moment, is part of the outcome and not raised: whoever
        looks at the gateway must learn of it, however long it lasts.

        Raises:
            ConflictError, NotFoundError: something changed or went away in between; decide anew.
        """
        intents, owner = decision.intents, present.vmcp
        self._done.pop(owner.key, None)
        if present.hmac_problem:
            message = f"Secret {present.name}-hmac-secret: {present.hmac_problem}"
            self._warn(owner, "HMACSecretValidationFailed", "ValidateSecret", message)
            return Published(Verdict(T.OBJECTS_APPLIED, False, R.HMAC_SECRET_INVALID, message), RETRY)
        if intents.deployment is None or intents.config_map is None or intents.service is None:
            return Published(None)
        writing = _Writing()
        outcome = await self._writer.attempt(self._write(present, decision, writing), writing.met)
        if outcome.refusal is not None and not outcome.refusal.has_cause("NamespaceTerminating"):
            self._warn(owner, "DeploymentUpdateFailed", "Apply", outcome.message)
        whole = outcome.written is WriteResult.ALL
        if whole and writing.secret is not None and writing.due is None and intents.identity:
            wanted = [(kind, name) for kind, name, body in _optional(owner.key.name, intents) if body is not None]
            self._done[owner.key] = _Done(writing.secret, tuple(wanted))
        verdict = Verdict(T.OBJECTS_APPLIED, whole, _REASONS[outcome.written], outcome.message)
        missed = MOMENT if self._writer.applier.missed(owner.key) else None
        due = min((after for after in (outcome.due, writing.due, missed) if after is not None), default=None)
        return Published(verdict, due, outcome.error)

    async def _write(self, present: Present, decision: GatewayDecision, writing: _Writing) -> None:
        """Write everything in an order in which pods can start."""
        intents = decision.intents
        assert intents.deployment is not None
        assert intents.config_map is not None
        assert intents.service is not None
        owner = present.vmcp
        await self._identity(present, intents.identity, writing)
        try:
            secret = writing.secret = await self._hmac_secret(present)
        except _HeldError as held:
            writing.met.append(held.contest)
            return
        if (contest := self._writer.contests.of((SECRET, secret.key))) is not None:
            writing.met.append(contest)
        writing.met += leaving(secret)
        # What may be reached goes first: a backend that is served shall be reachable.
        for kind, name, body in _optional(owner.key.name, intents):
            await self._keep(present, kind, name, body, writing)
        await self._apply(intents.config_map, owner, writing)
        deployment = intents.deployment
        if decision.dialect is Dialect.NATIVE:  # the stock gateway does not use the Secret
            deployment = with_session_secret(deployment, await self._mark_of(secret))
        lasting = intent_hash(without_rotation(deployment))
        writing.due = await self._writer.deploy(DEPLOYMENT, deployment, owner, writing.met, lasting=lasting)
        await self._apply(intents.service, owner, writing)

    def rollout(self, key: Key) -> Rollout | None:
        """Return how far the pods have the template that was written last; None when there is no Deployment of ours."""
        return self._writer.rollout(key)

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._done.pop(key, None)
        self._writer.forget(key)

    async def _identity(self, present: Present, bodies: tuple[Json, ...], writing: _Writing) -> None:
        for body in bodies:
            await self._apply(body, present.vmcp, writing)
        if bodies:
            return
        # The user names an account: what was made for the gateway before is not needed any more.
        for resource in (ROLE_BINDING, ROLE, SERVICE_ACCOUNT):
            await self._writer.drop(resource, identity_name(present.name), present.vmcp)

    async def _keep(self, present: Present, kind: Resource, name: str, body: Json | None, writing: _Writing) -> None:
        """Apply an object that is wanted, and remove one that is not."""
        if body is not None:
            await self._apply(body, present.vmcp, writing)
        else:
            await self._writer.drop(kind, name, present.vmcp)

    async def _hmac_secret(self, present: Present) -> Record:
        """Make the session Secret once and return it; its value is never changed."""
        key = Key(present.namespace, hmac_secret_name(present.name))
        body = desired_hmac_secret(present.name, present.namespace, secrets.token_bytes(32))
        live = self._reader.get(SECRET, key)
        if live is None:
            if self._writer.has_written(present.vmcp.key):  # there was one already: somebody removed it
                contest = self._writer.contests.of((SECRET, key))
                if contest is not None and not contest.repair:
                    raise _HeldError(contest)
                self._writer.contests.repaired((SECRET, key))
            set_controller_reference(present.vmcp, body, SECRET)
            try:
                record = await self._client.create(SECRET, body)
            except AlreadyExistsError:
                record = await self._client.get_live(SECRET, key)
            else:
                self._say(present.vmcp, "HMACSecretCreated", "Create", f"Secret {key.name} created")
            live = record
        if claim(live, present.vmcp, body["metadata"]["labels"]) is Entitlement.ORPHANED:
            adopted = [*_references(live), controller_reference(present.vmcp)]
            live = await self._client.merge_patch(
                SECRET,
                key,
                {"metadata": {"ownerReferences": adopted}},
                resource_version=live.meta.resource_version,
            )
            self._say(present.vmcp, "HMACSecretAdopted", "Adopt", f"Secret {key.name} had no owner and was adopted")
        return live

    async def _mark_of(self, secret: Record) -> str:
        """Return what changes with the value: its keyed hash, or where there is none the Secret's version."""
        look = await self._contents.look(secret.key)
        if isinstance(look.content, Facts) and look.content.digests:
            return look.content.digests.get(HMAC_KEY, "")
        hash_key = self._contents.hash_key
        if look.error is not None and (hash_key is None or hash_key.expected):
            raise look.error
        return f"{secret.meta.uid}/{secret.meta.resource_version}"

    async def _apply(self, body: Json, owner: Record, writing: _Writing) -> Applied:
        return await self._writer.apply(_BY_KIND[str(body["kind"])], body, owner, writing.met)

    def _say(self, record: Record, reason: str, action: str, note: str) -> None:
        self._recorder.event(record, type="Normal", reason=reason, action=action, note=note)

    def _warn(self, record: Record, reason: str, action: str, note: str) -> None:
        self._recorder.event(record, type="Warning", reason=reason, action=action, note=note)


def _optional(name: str, intents: Intents) -> tuple[tuple[Resource, str, Json | None], ...]:
    """Return kind, name and body of the objects that only some gateways have; without a body where it is not wanted."""
    return (
        (NETWORK_POLICY, network_policy_name(name), intents.network_policy),
        (POD_DISRUPTION_BUDGET, disruption_budget_name(name), intents.disruption_budget),
    )


def _references(live: Record) -> list[Json]:
    found = live.path("metadata.ownerReferences")
    return found if isinstance(found, list) else []
