"""Phase, message and conditions: what users see of a gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerPhase as Phase
from api.conditions import VirtualMCPServerReason as R
from api.conditions.virtualmcpserver import VIRTUALMCPSERVER
from api.contract import ConfigError
from api.contract.reports import name_some
from controllers.shared.verdicts import Conditions, Verdict
from controllers.shared.workload.rollout import PodCounts, Rollout
from controllers.virtualmcpserver.reports import GatewayReport
from runtime import Condition, set_condition

MAX_STATUS = 256 * 1024
"""Bytes of conditions; etcd takes 1.5 MiB for the whole object."""
FRESH = timedelta(seconds=90)
"""A stock gateway that reported within this time owns phase, message and Ready: three of its default intervals."""

_PENDING_REASONS = frozenset(
    {str(R.GROUP_REF_NOT_READY), str(R.NO_USABLE_BACKENDS), str(R.APPLY_FAILED), str(R.READ_FAILED)}
)
STANDING = frozenset({str(R.CONTESTED), str(R.APPLY_FAILED), str(R.READ_FAILED)})
"""Reasons of ObjectsApplied=False that take nothing from a gateway that was Ready for this generation of its spec."""
_MAY_PASS = frozenset({str(R.OBJECT_REFUSED)})
"""Reasons of phase Failed that may end without the user: a quota or a webhook of others. Tried again every minute."""
_FAMILIES = tuple(f"{rule.type}-" for rule in VIRTUALMCPSERVER.rules if rule.family)
_OWN_TYPES = frozenset(
    str(rule.type) for rule in VIRTUALMCPSERVER.rules if rule.writer == "operator" and not rule.family
)


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """Phase, its sentence, and the conditions Ready and Stalled.

    Attributes:
        phase: in the status.
        message: in the status and in the conditions.
        ready: whether the gateway serves.
        reason: of the conditions.
        stalled: only the user can mend what keeps it from serving.
    """

    phase: Phase
    message: str
    ready: bool
    reason: str
    stalled: bool = False


def is_own(condition_type: str) -> bool:
    """Whether the operator writes a condition type; all others are left to the gateway or to strangers."""
    return condition_type in _OWN_TYPES or condition_type.startswith(_FAMILIES)


def blocked_health(verdict: Verdict) -> GatewayHealth:
    """Return the health while a check stops everything else: waiting, or for the user to mend."""
    reason = str(verdict.reason)
    phase = Phase.PENDING if reason in _PENDING_REASONS else Phase.FAILED
    stalled = phase is Phase.FAILED and reason not in _MAY_PASS
    return GatewayHealth(phase, verdict.message, False, reason, stalled)


def compute_health(pods: PodCounts, report: GatewayReport) -> GatewayHealth:
    """Return the health of a running gateway.

    Args:
        pods: the gateway's pods.
        report: what it reports of its backends, empty when it does not. A slow backend works, and one that is not
            checked yet is not down.
    """
    if pods.ready == 0:
        why = "".join(f"; {problem}" for problem in pods.problems)
        if pods.failed or (pods.broken and pods.broken == pods.pending):
            message = f"Virtual MCP server failed to start{why}"
            return GatewayHealth(Phase.FAILED, message, False, str(R.DEPLOYMENT_FAILED))
        message = f"Virtual MCP server is starting{why}" if pods.pending else "No pods found for Virtual MCP server"
        return GatewayHealth(Phase.PENDING, message, False, str(R.DEPLOYMENT_NOT_READY))
    running = "Virtual MCP server is running"
    if not report.checked:
        return GatewayHealth(Phase.PENDING, f"{running}, backends are not checked yet", False, str(R.BACKENDS_UNKNOWN))
    if not report.down:
        return GatewayHealth(Phase.READY, running, True, str(R.DEPLOYMENT_READY))
    down = f"down: {name_some(report.down)}"
    if report.usable == 0:
        message = f"{running}, but no backend can be used; {down}"
        return GatewayHealth(Phase.DEGRADED, message, False, str(R.BACKENDS_UNAVAILABLE))
    message = f"{running} with {report.usable}/{report.total} backends available; {down}"
    return GatewayHealth(Phase.DEGRADED, message, False, str(R.BACKENDS_DEGRADED))


def judge_rollout(rollout: Rollout, pods: PodCounts) -> Verdict:
    """Say whether every pod runs what is wanted, and why not."""
    if rollout.complete:
        return Verdict(T.ROLLED_OUT, True, R.ROLLOUT_COMPLETE, str(rollout))
    problems = [*([rollout.problem] if rollout.problem else []), *pods.problems]
    reason = R.ROLLOUT_STALLED if rollout.stalled or pods.broken else R.ROLLOUT_IN_PROGRESS
    return Verdict(T.ROLLED_OUT, False, reason, "; ".join([str(rollout), *problems]))


def was_ready(previous: Conditions, generation: int) -> bool:
    """Whether the gateway has been Ready for this generation of its spec, and still is."""
    return any(c.type == T.READY and c.status == "True" and c.observed_generation == generation for c in previous)


def with_rollout(health: GatewayHealth, rollout: Rollout, verdict: Verdict, *, held_back: bool) -> GatewayHealth:
    """Return the health of a gateway with what its Deployment says.

    Args:
        health: what the pods that run say.
        rollout: how far the Deployment is.
        verdict: from `judge_rollout`.
        held_back: the gateway has not been Ready for this generation of its spec. Else the pods of before serve what
            the spec asks for, and a rollout (of a rotated Secret, of a newer operator's template) takes nothing away.
    """
    if health.reason in (R.DEPLOYMENT_NOT_READY, R.DEPLOYMENT_FAILED):
        return _explained(health, rollout)
    if rollout.serving or not held_back:
        return health
    phase = Phase.DEGRADED if verdict.reason == R.ROLLOUT_STALLED else Phase.PENDING
    message = f"this generation is not rolled out yet: {verdict.message}"
    return GatewayHealth(phase, message, False, str(verdict.reason))


def _explained(health: GatewayHealth, rollout: Rollout) -> GatewayHealth:
    """Say, where no pod is ready, why none is made: a quota leaves no pod that could say so."""
    if not rollout.problem:
        return health
    message = f"{health.message}; {rollout.problem}"
    if rollout.stalled:
        return GatewayHealth(Phase.FAILED, message, False, str(R.DEPLOYMENT_FAILED))
    return replace(health, message=message)


def sentences(errors: Iterable[ConfigError]) -> str:
    """Return configuration errors as one message."""
    items = tuple(errors)
    return "; ".join(str(error) for error in items[:10]) + (f" and {len(items) - 10} more" if len(items) > 10 else "")


def health_conditions(health: GatewayHealth) -> list[Condition]:
    """Return Ready, and Stalled=True where only the user can mend what is wrong; otherwise Stalled is absent."""
    found = [Condition(str(T.READY), "True" if health.ready else "False", health.reason, health.message)]
    if health.stalled:
        found.append(Condition(str(T.STALLED), "True", health.reason, health.message))
    return found


def compose_conditions(
    wanted: Iterable[Condition], previous: Conditions, *, generation: int, now: datetime
) -> Conditions:
    """Return the wanted conditions with the transition times of the previous ones, cut at `MAX_STATUS`."""
    before = {condition.type: condition for condition in previous}
    found: list[Condition] = []
    for condition in wanted:
        old = (before[condition.type],) if condition.type in before else ()
        found += set_condition(old, replace(condition, observed_generation=generation), now=now)
    return _cut(tuple(found), before, generation, now)


def _cut(conditions: Conditions, before: Mapping[str, Condition], generation: int, now: datetime) -> Conditions:
    sizes = [len(orjson.dumps(condition.as_dict())) for condition in conditions]
    if sum(sizes) <= MAX_STATUS:
        return conditions
    truncated = Condition(
        str(T.STATUS_TRUNCATED),
        "True",
        str(R.STATUS_TOO_LARGE),
        "conditions of individual members were left out",
        generation,
    )
    old = (before[truncated.type],) if truncated.type in before else ()
    kept = list(set_condition(old, truncated, now=now))
    room = MAX_STATUS - len(orjson.dumps(kept[0].as_dict()))
    # What is wrong stays longest: first everything that is not per member, then failures, then the rest.
    order = sorted(range(len(conditions)), key=lambda i: (_is_member(conditions[i]), conditions[i].status == "True", i))
    chosen = set()
    for index in order:
        room -= sizes[index] + 1
        if room < 0:
            break
        chosen.add(index)
    return (*(condition for index, condition in enumerate(conditions) if index in chosen), *kept)


def _is_member(condition: Condition) -> bool:
    return condition.type.startswith(_FAMILIES)
