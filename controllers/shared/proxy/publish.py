"""Writes the objects of proxies, and says how far their pods are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from controllers.shared.contests import Contest, Contests
from controllers.shared.ownership import ForeignObjectError
from controllers.shared.proxy.names import account_name
from controllers.shared.proxy.render import Objects
from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, SERVICE_ACCOUNT
from controllers.shared.workload.apply import Applied, Applier, intent_hash, is_refusal
from controllers.shared.workload.manifest import Json
from controllers.shared.workload.rollout import Rollout, read_rollout
from runtime import ApiError, ConflictError, Key, Manager, NotFoundError, Record, Recorder, Resource
from runtime.util.owner import is_controlled_by

RETRY = timedelta(minutes=1).total_seconds()
"""Seconds after which what the server refused is tried again: a quota or a webhook may have changed; no event tells."""


class Written(Enum):
    """What came of writing."""

    ALL = "every object is as it should be"
    FOREIGN = "an object of a wanted name belongs to somebody else"
    REFUSED = "the server refused an object"
    CONTESTED = "somebody else keeps changing an object"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of writing a proxy's objects.

    Attributes:
        written: what came of it; None where nothing was to be written.
        message: for users.
        due: seconds after which to look again though nothing happens; None for never.
        rollout: how far the pods have what was written; None when there is no Deployment of ours.
    """

    written: Written | None = None
    message: str = ""
    due: float | None = None
    rollout: Rollout | None = None


class ProxyPublisher:
    """Writes objects of the proxies of one controller.

    Args:
        manager: for the client and the cache.
        recorder: for events.
    """

    def __init__(self, manager: Manager, recorder: Recorder) -> None:
        self._client, self._reader = manager.client, manager.reader
        self._contests = Contests()
        self._applier = Applier(manager, contests=self._contests)
        self._recorder = recorder
        self._templates: dict[Key, tuple[str, int]] = {}

    async def publish(self, owner: Record, objects: Objects) -> Outcome:
        """Write everything that differs, in an order in which pods can start.

        Raises:
            ApiError, TransportError: for a passing reason; decide anew.
        """
        contests: list[Contest] = []
        try:
            await self._write(owner, objects, contests)
        except ForeignObjectError as error:
            return self._outcome(owner, Written.FOREIGN, str(error))
        except (ConflictError, NotFoundError):
            raise
        except ApiError as error:
            if not is_refusal(error):
                raise
            return self._outcome(owner, Written.REFUSED, error.message, RETRY)
        if contests:
            message = "; ".join(str(contest) for contest in contests)
            return self._outcome(owner, Written.CONTESTED, message, min(contest.due for contest in contests))
        return self._outcome(owner, Written.ALL, "every generated object is as it should be")

    def forget(self, owner: Key) -> None:
        """The proxy is gone; the garbage collector removes what it owned."""
        self._templates.pop(owner, None)
        self._applier.forget(owner)

    async def _write(self, owner: Record, objects: Objects, contests: list[Contest]) -> None:
        if objects.account is not None:
            await self._apply(SERVICE_ACCOUNT, objects.account, owner, contests)
        else:
            await self._drop_account(owner)
        await self._apply(CONFIG_MAP, objects.config_map, owner, contests)
        applied = await self._apply(DEPLOYMENT, objects.deployment, owner, contests)
        if applied.record is not None:
            template = intent_hash(objects.deployment["spec"]["template"])
            generation, known = applied.record.meta.generation, self._templates.get(owner.key)
            # Scaling changes no template; a Deployment that was made anew starts to count anew.
            if known is None or known[0] != template or known[1] > generation:
                self._templates[owner.key] = template, generation
        await self._apply(SERVICE, objects.service, owner, contests)

    async def _apply(self, kind: Resource, body: Json, owner: Record, contests: list[Contest]) -> Applied:
        applied = await self._applier.apply(kind, body, owner)
        if applied.contest is not None:
            contests.append(applied.contest)
        if applied.created and kind in (DEPLOYMENT, SERVICE):
            note = f"{kind.kind} {body['metadata']['name']} created"
            self._recorder.event(owner, type="Normal", reason=f"{kind.kind}Created", action="Create", note=note)
        return applied

    async def _drop_account(self, owner: Record) -> None:
        """Remove the account that was made before the user named one."""
        live = self._reader.get(SERVICE_ACCOUNT, Key(owner.meta.namespace, account_name(owner.meta.name)))
        if live is not None and is_controlled_by(live.meta, owner):
            try:
                await self._client.delete(SERVICE_ACCOUNT, live.key, uid=live.meta.uid)
            except NotFoundError:
                return

    def rollout(self, owner: Key) -> Rollout | None:
        """Return how far the pods have the template that was written last; None when there is no Deployment of ours."""
        record, known = self._reader.get(DEPLOYMENT, owner), self._templates.get(owner)
        return read_rollout(record, known[1]) if record is not None and known is not None else None

    def _outcome(self, owner: Record, written: Written, message: str, due: float | None = None) -> Outcome:
        rollout = self.rollout(owner.key)
        return Outcome(written, message, due, rollout)
