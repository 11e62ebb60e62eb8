"""What is said of a proxy's objects and pods: conditions that every kind that runs proxies has, in the same words."""

from __future__ import annotations

from dataclasses import dataclass

from api.conditions.vocabulary import (
    APPLY_FAILED_REASON,
    CONTESTED_REASON,
    DEPLOYMENT_NOT_READY_REASON,
    DEPLOYMENT_READY_TYPE,
    FOREIGN_OBJECT_REASON,
    OBJECT_REFUSED_REASON,
    OBJECTS_APPLIED_REASON,
    OBJECTS_APPLIED_TYPE,
)
from controllers.shared.verdicts import Conditions, Verdict
from controllers.shared.workload.rollout import Rollout
from controllers.shared.workload.writing import WriteOutcome, WriteResult

OBJECTS_APPLIED, DEPLOYMENT_READY = OBJECTS_APPLIED_TYPE[0], DEPLOYMENT_READY_TYPE[0]
DEPLOYMENT_NOT_READY = DEPLOYMENT_NOT_READY_REASON[0]
OBJECT_REFUSED, CONTESTED, APPLY_FAILED = OBJECT_REFUSED_REASON[0], CONTESTED_REASON[0], APPLY_FAILED_REASON[0]

PASSING = frozenset((DEPLOYMENT_NOT_READY, OBJECT_REFUSED, APPLY_FAILED))
"""Reasons that may end without the user."""
_REASONS = {
    WriteResult.ALL: OBJECTS_APPLIED_REASON[0],
    WriteResult.FOREIGN: FOREIGN_OBJECT_REASON[0],
    WriteResult.REFUSED: OBJECT_REFUSED,
    WriteResult.CONTESTED: CONTESTED,
    WriteResult.FAILED: APPLY_FAILED,
}
_WHOLE = frozenset((WriteResult.ALL, WriteResult.CONTESTED))
"""Everything was written for this generation, though somebody may have changed it since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """What the references of a proxy came to, and what it is made of.

    Attributes:
        url: of its Service.
        native: the operator runs this project's image; the stock one reads another document.
        verdicts: of its references.
        problems: what the program or the platform would refuse.
        template_problem: why the user's pod template cannot be merged; "" where it can.
    """

    url: str
    native: bool = True
    verdicts: tuple[Verdict, ...] = ()
    problems: tuple[str, ...] = ()
    template_problem: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one look at a proxy.

    Attributes:
        outcome: of writing its objects; None where a check failed, so that nothing was written.
        rollout: how far its pods are; None where there is no Deployment of its own.
        problems: why pods are not ready.
    """

    outcome: WriteOutcome | None = None
    rollout: Rollout | None = None
    problems: tuple[str, ...] = ()

    @property
    def due(self) -> float | None:
        """Seconds after which to look again though nothing happens; None for never."""
        return self.outcome.due if self.outcome is not None else None

    @property
    def error(self) -> Exception | None:
        """What did not work for a passing reason, to be raised once it was reported."""
        return self.outcome.error if self.outcome is not None else None


NOT_DEPLOYED = Settled()
"""Nothing was written, and nothing stands."""


def was_served(previous: Conditions, generation: int) -> bool:
    """Whether a pod of the proxy served this generation of the spec before."""
    return any(
        c.type == DEPLOYMENT_READY and c.status == "True" and c.observed_generation == generation for c in previous
    )


def judge_proxy(previous: Conditions, generation: int, settled: Settled) -> list[Verdict]:
    """Say what came of writing a proxy's objects, and how far its pods are.

    Args:
        previous: conditions so far.
        generation: of the spec.
        settled: what came of looking at it.
    """
    verdicts, outcome = [], settled.outcome
    if outcome is not None:
        done = outcome.written is WriteResult.ALL
        verdicts.append(Verdict(OBJECTS_APPLIED, done, _REASONS[outcome.written], outcome.message))
    written = outcome is not None and outcome.written in _WHOLE
    return [*verdicts, _check_deployment(settled, written=written, served=was_served(previous, generation))]


def _check_deployment(settled: Settled, *, written: bool, served: bool) -> Verdict:
    """Say whether a pod serves this generation; once one did, another rollout takes nothing away while one is there.

    Where nothing could be written for this generation, pods that serve have what was written for an earlier one.
    """
    rollout = settled.rollout
    if rollout is None:
        return Verdict(DEPLOYMENT_READY, False, DEPLOYMENT_NOT_READY, "the Deployment is not there yet")
    available = f"{rollout.available} of {rollout.wanted} pods are available"
    said = str(rollout) if written else available
    message = "; ".join(filter(None, (said, rollout.problem, *settled.problems)))
    if (served and rollout.available > 0) or (written and rollout.serving):
        return Verdict(DEPLOYMENT_READY, True, DEPLOYMENT_READY, message)
    return Verdict(DEPLOYMENT_READY, False, DEPLOYMENT_NOT_READY, message)


def counted(verdicts: list[Verdict], previous: Conditions, generation: int) -> list[Verdict]:
    """Return the verdicts that decide whether the proxy can be used.

    An object that somebody else keeps changing takes nothing away, nor does a failure that passes once this generation
    was served: as long as pods are ready, they serve. That no pod serves is not the reason where another check keeps
    pods from being made.
    """
    harmless = {CONTESTED, APPLY_FAILED} if was_served(previous, generation) else {CONTESTED}
    found = [verdict for verdict in verdicts if verdict.reason not in harmless]
    others = [verdict for verdict in found if verdict.reason != DEPLOYMENT_NOT_READY]
    return found if all(verdict.ok for verdict in others) else others
