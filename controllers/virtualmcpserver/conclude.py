"""Choice and GatewayObjects -> GatewayDecision: conditions, phase and the other fields of the status."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Dialect
from api.contract.identifiers import GATEWAY_PORT
from controllers.shared.verdicts import Conditions, Verdict, one_per_type
from controllers.shared.workload.network import service_url
from controllers.virtualmcpserver.choose import Choice
from controllers.virtualmcpserver.members import describe_skipped
from controllers.virtualmcpserver.names import service_name
from controllers.virtualmcpserver.parts import Subject
from controllers.virtualmcpserver.render import GatewayObjects, Intents
from controllers.virtualmcpserver.reports import (
    OVERDUE,
    GatewayReport,
    judge_report,
    parse_time,
    read_report,
    report_age,
)
from controllers.virtualmcpserver.snapshot import Present
from controllers.virtualmcpserver.status import (
    FRESH,
    GatewayHealth,
    blocked_health,
    compose_conditions,
    compute_health,
    health_conditions,
)
from membership import Skipped
from runtime import Condition

NEWCOMER = timedelta(seconds=10)
"""A member without a verdict is not told of until it is this old: verdicts take seconds when thousands are made."""


@dataclass(frozen=True)
class GatewayDecision:
    """What shall be.

    Attributes:
        dialect: of the gateway.
        intents: the wanted objects.
        conditions: the wanted conditions of the operator, without those about writing objects.
        health: phase, message, Ready.
        fields: the other fields of the status; None stands for absent.
        health_is_reported: the stock gateway reports phase, message and Ready by itself; leave them alone.
        look_again: seconds after which time alone changes the decision.
        skipped: members that are no backend.
        report: what the gateway reports of its backends.
        report_is_current: whether that still holds, as far as is known.
    """

    dialect: Dialect
    intents: Intents
    conditions: Conditions
    health: GatewayHealth
    fields: dict[str, Any]
    health_is_reported: bool = False
    look_again: float | None = None
    skipped: tuple[Skipped, ...] = ()
    report: GatewayReport = field(default_factory=GatewayReport)
    report_is_current: bool = False


def conclude(choice: Choice, objects: GatewayObjects, present: Present) -> GatewayDecision:
    """Say what the status must be, given what will be written and what stands already."""
    refused = [objects.refusal] if objects.refusal is not None else []
    verdicts = one_per_type([*choice.verdicts, *refused])
    native = choice.subject.dialect is Dialect.NATIVE
    age = report_age(present.status, present.now)
    report = read_report(present.status)
    reporting = judge_report(present.status, present.pods, age) if native else None
    current = reporting is None or reporting.status == "True"
    health = _health(verdicts, present, report if current else GatewayReport())
    told, telling = _worth_telling(choice, present.now)
    wanted = [
        *health_conditions(health),
        *(verdict.condition(0) for verdict in verdicts),
        *choice.advice,
        _inclusion(told),
        *([reporting] if reporting is not None else []),
    ]
    reported = not native and all(verdict.ok for verdict in verdicts) and _is_reported(present, age)
    stale = _look_again(age, fresh=FRESH if reported else OVERDUE if reporting and current else None)
    url = _url(choice.subject) if not objects.intents.empty else present.status.get("url")
    return GatewayDecision(
        dialect=choice.subject.dialect,
        intents=objects.intents,
        conditions=compose_conditions(wanted, present.previous, generation=present.generation, now=present.now),
        health=health,
        fields={"observedGeneration": present.generation, "url": url, **choice.hashes},
        health_is_reported=reported,
        look_again=min((after for after in (telling, stale) if after is not None), default=None),
        skipped=choice.skipped,
        report=report,
        report_is_current=current,
    )


def _look_again(age: timedelta | None, *, fresh: timedelta | None) -> float | None:
    """Return the seconds until a report is out of date unless another one comes."""
    return (fresh - age).total_seconds() + 1 if age is not None and fresh is not None else None


def _health(verdicts: tuple[Verdict, ...], present: Present, report: GatewayReport) -> GatewayHealth:
    # A configuration that cannot be replaced leaves a running gateway running.
    for verdict in verdicts:
        standing = verdict.type is T.CONFIG_PUBLISHED and present.config_exists
        if not verdict.ok and not standing:
            return blocked_health(verdict)
    return compute_health(present.pods, report)


def _inclusion(skipped: tuple[Skipped, ...]) -> Condition:
    type_ = str(T.BACKENDS_INCLUDED)
    if skipped:
        return Condition(type_, "False", str(R.MEMBERS_SKIPPED), describe_skipped(skipped))
    return Condition(type_, "True", str(R.ALL_MEMBERS_INCLUDED), "every member of the group is a backend")


def _worth_telling(choice: Choice, now: datetime) -> tuple[tuple[Skipped, ...], float | None]:
    """Return the skipped members without those that were made a moment ago and have no verdict yet.

    While a group fills up, each decision would find others of them: a status and two events that are out of date with
    the next verdict.

    Returns:
        The members, and the seconds after which the first of those that were left out must be told of.
    """
    left: dict[str, float] = {}
    for name, created in choice.newcomers.items():
        made = parse_time(created)
        # The time is the API server's: where the clocks are that far apart, it tells nothing about the age.
        if made is not None and abs(now - made) < NEWCOMER:
            left[name] = (made + NEWCOMER - now).total_seconds() + 1
    return tuple(item for item in choice.skipped if item.name not in left), min(left.values(), default=None)


def _is_reported(present: Present, age: timedelta | None) -> bool:
    return (
        present.pods.ready > 0
        # "Not ready" was ours, said while the gateway already reported: it is ours to take back.
        and all(c.type != T.READY or c.reason != R.DEPLOYMENT_NOT_READY for c in present.previous)
        and age is not None
        and age < FRESH
    )


def _url(subject: Subject) -> str:
    return service_url(service_name(subject.name), subject.namespace, subject.cluster_domain, GATEWAY_PORT)
