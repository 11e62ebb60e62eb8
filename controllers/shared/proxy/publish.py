"""Writes the objects of proxies, and says how far their pods are."""

from __future__ import annotations

from dataclasses import replace

from controllers.shared.contests import Hindrance
from controllers.shared.proxy.names import account_name, optional
from controllers.shared.proxy.render import ProxyObjects, without_rotation
from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, SERVICE_ACCOUNT
from controllers.shared.timing import Timing
from controllers.shared.workload.apply import intent_hash
from controllers.shared.workload.manifest import Json
from controllers.shared.workload.rollout import Rollout, read_rollout
from controllers.shared.workload.writing import WriteOutcome, Writer
from runtime import Key, Manager, Record, Recorder, Resource
from runtime.util.owner import is_controlled_by


class ProxyPublisher:
    """Writes objects of the proxies of one controller.

    Args:
        manager: for the client and the cache.
        recorder: for events.
        timing: of repairs.
    """

    def __init__(self, manager: Manager, recorder: Recorder, timing: Timing) -> None:
        self._reader, self._writer = manager.reader, Writer(manager, recorder, timing)

    async def publish(self, owner: Record, objects: ProxyObjects) -> WriteOutcome:
        """Write everything that differs.

        Raises:
            ConflictError, NotFoundError: something changed or went away in between; decide anew.
        """
        met: list[Hindrance] = []
        waits: list[float] = []
        outcome = await self._writer.attempt(self._write(owner, objects, met, waits), met)
        due = min((after for after in (outcome.due, *waits) if after is not None), default=None)
        return replace(outcome, due=due)

    def rollout(self, owner: Record) -> Rollout | None:
        """Return how far the pods have the template that was written last; None when there is no Deployment of ours.

        After a start, before anything was written, nobody knows whether a pod has that template: none is `seen`.
        """
        record = self._reader.get(DEPLOYMENT, owner.key)
        if record is None or not is_controlled_by(record.meta, owner):
            return None
        return self._writer.rollout(owner.key) or read_rollout(record, 0)

    def forget(self, owner: Key) -> None:
        """The proxy is gone; the garbage collector removes what it owned."""
        self._writer.forget(owner)

    async def _write(self, owner: Record, objects: ProxyObjects, met: list[Hindrance], waits: list[float]) -> None:
        """Write everything in an order in which pods can start, and note what waits.

        What may be reached goes before the pods that reach it.
        """
        name = owner.meta.name
        policy, budget = optional(name)
        await self._keep(SERVICE_ACCOUNT, account_name(name), objects.account, owner, met)
        await self._keep(*policy, objects.network_policy, owner, met)
        await self._keep(*budget, objects.disruption_budget, owner, met)
        await self._writer.apply(CONFIG_MAP, objects.config_map, owner, met)
        lasting = intent_hash(without_rotation(objects.deployment))
        wait = await self._writer.deploy(DEPLOYMENT, objects.deployment, owner, met, lasting=lasting)
        if wait is not None:
            waits.append(wait)
        await self._writer.apply(SERVICE, objects.service, owner, met)

    async def _keep(self, kind: Resource, name: str, body: Json | None, owner: Record, met: list[Hindrance]) -> None:
        """Apply an object that is wanted, and remove one that is not."""
        if body is not None:
            await self._writer.apply(kind, body, owner, met)
        else:
            await self._writer.drop(kind, name, owner)
