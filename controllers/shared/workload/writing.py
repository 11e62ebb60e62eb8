"""Writes the objects of what deploys pods: says what came of it, removes what is not wanted, knows how far pods are."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from controllers.shared.contests import Contest, Contests, Hindrance, Leaving
from controllers.shared.ownership import ForeignObjectError
from controllers.shared.timing import Timing
from controllers.shared.workload.apply import Applied, Applier, intent_hash, is_refusal
from controllers.shared.workload.manifest import Json
from controllers.shared.workload.pacing import DeploymentChange, Pacing
from controllers.shared.workload.rollout import Rollout, cut, read_rollout
from runtime import ApiError, ConflictError, Key, Manager, NotFoundError, Record, Recorder, Resource, TransportError
from runtime.util.owner import is_controlled_by

RETRY = timedelta(minutes=1).total_seconds()
"""Seconds after which what was refused is tried again: a quota or a webhook may have changed; no event tells."""


class WriteResult(Enum):
    """What came of writing."""

    ALL = "every object is up to date"
    FOREIGN = "an object of a wanted name belongs to somebody else"
    REFUSED = "the server refused an object"
    CONTESTED = "somebody else keeps changing an object"
    FAILED = "the server, or a webhook that it calls, failed for the moment, or an object is on its way out"


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The outcome of writing the objects of one owner.

    Attributes:
        written: what came of it.
        message: for users.
        due: seconds after which to look again though nothing happens; None for never.
        refusal: the server's words, when it refused.
        error: what did not work for a passing reason: to be raised once it was reported, so that it is tried again.
    """

    written: WriteResult
    message: str
    due: float | None = None
    refusal: ApiError | None = None
    error: ApiError | TransportError | None = None


@dataclass(frozen=True, slots=True)
class _Template:
    """The pod template that was written last: its hash, where, and since which generation of the Deployment."""

    kind: Resource
    deployment: Key
    template: str
    since: int


class Writer:
    """Writes objects for one controller.

    Args:
        manager: for the client and the cache.
        recorder: for events.
        timing: of repairs and rollouts.
        clock: seconds, monotonic.

    Attributes:
        contests: the rate of repairs.
        applier: remembers what was applied.
    """

    def __init__(
        self, manager: Manager, recorder: Recorder, timing: Timing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._reader, self._recorder = manager.client, manager.reader, recorder
        self.contests = Contests(clock, timing)
        self.applier = Applier(manager, contests=self.contests)
        self._pacing = Pacing(clock, timing)
        self._templates: dict[Key, _Template] = {}

    async def attempt(self, write: Awaitable[None], met: list[Hindrance]) -> WriteOutcome:
        """Await what writes the objects. What the server refuses or cannot do at the moment is an outcome, not raised.

        Args:
            write: writes everything, with `apply` and `drop`.
            met: what it met on the way.

        Raises:
            ConflictError, NotFoundError: something changed or went away in between; decide anew.
        """
        try:
            await write
        except ForeignObjectError as error:
            return WriteOutcome(WriteResult.FOREIGN, str(error), RETRY)
        except (ConflictError, NotFoundError):
            raise
        except ApiError as error:
            if is_refusal(error):
                return WriteOutcome(WriteResult.REFUSED, error.message, RETRY, error)
            return WriteOutcome(WriteResult.FAILED, sentence_of(error), error=error)
        except TransportError as error:
            return WriteOutcome(WriteResult.FAILED, sentence_of(error), error=error)
        if met:
            leaves = any(isinstance(hindrance, Leaving) for hindrance in met)
            message = "; ".join(str(hindrance) for hindrance in met)
            due = min((hindrance.due for hindrance in met if isinstance(hindrance, Contest)), default=None)
            return WriteOutcome(WriteResult.FAILED if leaves else WriteResult.CONTESTED, message, due)
        return WriteOutcome(WriteResult.ALL, "every generated object is up to date")

    async def apply(self, kind: Resource, body: Json, owner: Record, met: list[Hindrance]) -> Applied:
        """Make an object what it shall be, tell of it, and note what others do to it."""
        applied = await self.applier.apply(kind, body, owner)
        if applied.contest is not None:
            met.append(applied.contest)
        if applied.record is not None:
            met += leaving(applied.record)
        name = body["metadata"]["name"]
        if kind.kind in ("Deployment", "Service") and applied.created:
            self._say(owner, f"{kind.kind}Created", "Create", f"{kind.kind} {name} created")
        elif kind.kind == "Deployment" and applied.updated:
            self._say(owner, "DeploymentUpdated", "Update", f"Deployment {name} updated")
        if kind.kind == "Deployment" and applied.record is not None:
            self._note_template(owner.key, intent_hash(body["spec"]["template"]), applied.record)
        return applied

    async def deploy(
        self, kind: Resource, body: Json, owner: Record, met: list[Hindrance], *, lasting: str
    ) -> float | None:
        """Apply a Deployment, or wait until a burst of changes is over; return the seconds to wait.

        Args:
            kind: of Deployments.
            body: what it shall be.
            owner: of it.
            met: what it met on the way.
            lasting: hash of the body without what only says which versions of its Secrets the pods have.
        """
        change = DeploymentChange(owner.meta.generation, intent_hash(body), lasting)
        live = self._reader.get(kind, Key(owner.meta.namespace, body["metadata"]["name"]))
        # A Deployment that is missing or was edited is repaired at once; only a new wish of ours waits.
        repair = live is None or self.applier.intends(kind, body, owner)
        wait = self._pacing.wait(owner.key, change, repair=repair)
        if wait is not None:
            return wait
        self._pacing.starts(owner.key)
        await self.apply(kind, body, owner, met)
        self._pacing.rolled(owner.key, change)
        return None

    async def drop(self, kind: Resource, name: str, owner: Record) -> None:
        """Remove an object of the owner that is not wanted any more."""
        live = self._reader.get(kind, Key(owner.meta.namespace, name))
        if live is None or not is_controlled_by(live.meta, owner):
            return
        try:
            await self._client.delete(kind, live.key, uid=live.meta.uid)
        except NotFoundError:
            return

    def has_written(self, owner: Key) -> bool:
        """Whether this process wrote the owner's Deployment."""
        return owner in self._templates

    def rollout(self, owner: Key) -> Rollout | None:
        """Return how far the pods have the template that was written last; None where this process wrote none."""
        known = self._templates.get(owner)
        record = self._reader.get(known.kind, known.deployment) if known is not None else None
        if record is None or known is None:
            return None
        return read_rollout(record, known.since, waiting=self._pacing.waits(owner))

    def forget(self, owner: Key) -> None:
        """The owner is gone; the garbage collector removes what it owned."""
        self._pacing.forget(owner)
        self._templates.pop(owner, None)
        self.applier.forget(owner)

    def _note_template(self, owner: Key, template: str, deployment: Record) -> None:
        """Remember since which generation of the Deployment its pods have this template: scaling changes none.

        A Deployment that was deleted and made anew starts to count anew.
        """
        known, generation = self._templates.get(owner), deployment.meta.generation
        if known is None or known.template != template or known.since > generation:
            self._templates[owner] = _Template(deployment.resource, deployment.key, template, generation)

    def _say(self, owner: Record, reason: str, action: str, note: str) -> None:
        self._recorder.event(owner, type="Normal", reason=reason, action=action, note=note)


def leaving(record: Record) -> list[Leaving]:
    """Return what to say of an object that is being deleted; nothing of others."""
    return [Leaving(record.resource, record.key, tuple(record.meta.finalizers))] if record.meta.deleting else []


_PORT_OF_A_CONNECTION = re.compile(r":\d+->")
_MARK_OF_A_REQUEST = re.compile(r"(?i)\b(request|trace|audit)[ _-]?id\b[\"':= ]+[\w-]+")


def sentence_of(error: Exception) -> str:
    """Return what to say of a passing failure, without what differs each time.

    Every new text would be a new status, and every new status another try.
    """
    sentence = error.message if isinstance(error, ApiError) else f"the API server does not answer: {error}"
    return cut(_MARK_OF_A_REQUEST.sub("", _PORT_OF_A_CONNECTION.sub("->", sentence)))
