"""Writes the objects of proxies, and says how far their pods are."""

from __future__ import annotations

from controllers.shared.contests import Contest
from controllers.shared.proxy.names import account_name
from controllers.shared.proxy.render import ProxyObjects
from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, SERVICE_ACCOUNT
from controllers.shared.workload.rollout import Rollout, read_rollout
from controllers.shared.workload.writing import WriteOutcome, Writer
from runtime import Key, Manager, Record, Recorder
from runtime.util.owner import is_controlled_by


class ProxyPublisher:
    """Writes objects of the proxies of one controller.

    Args:
        manager: for the client and the cache.
        recorder: for events.
    """

    def __init__(self, manager: Manager, recorder: Recorder) -> None:
        self._reader, self._writer = manager.reader, Writer(manager, recorder)

    async def publish(self, owner: Record, objects: ProxyObjects) -> WriteOutcome:
        """Write everything that differs.

        Raises:
            ConflictError, NotFoundError: something changed or went away in between; decide anew.
        """
        contests: list[Contest] = []
        return await self._writer.attempt(self._write(owner, objects, contests), contests)

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

    async def _write(self, owner: Record, objects: ProxyObjects, contests: list[Contest]) -> None:
        """Write everything in an order in which pods can start."""
        if objects.account is not None:
            await self._writer.apply(SERVICE_ACCOUNT, objects.account, owner, contests)
        else:
            await self._writer.drop(SERVICE_ACCOUNT, account_name(owner.meta.name), owner)
        await self._writer.apply(CONFIG_MAP, objects.config_map, owner, contests)
        await self._writer.apply(DEPLOYMENT, objects.deployment, owner, contests)
        await self._writer.apply(SERVICE, objects.service, owner, contests)
