"""What an MCPExternalAuthConfig's status must say, and whether it may go: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic.alias_generators import to_snake

from api.conditions import MCPExternalAuthConfigCondition as Type
from api.conditions import MCPExternalAuthConfigReason as Reason
from api.contract.strategies import Converted, convert_strategy
from api.contract.validation.auth import check_strategy
from api.contract.validation.report import Report
from api.v1beta1 import MCPExternalAuthConfigSpec
from api.v1beta1.mcpexternalauthconfig import CONFIGURED_TYPES
from controllers.mcpexternalauthconfig.auth_server import auth_server_problems, synthesizes_identity
from controllers.shared.verdicts import Conditions, Unreadable, Verdict, conditions_json, fold, sum_up

MAX_REFERRERS = 10
"""Referrers that a message names; beyond, it gives their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the decision depends on.

    Attributes:
        name: of the auth config.
        spec: of the auth config.
        spec_hash: hash of that spec.
        known_hash: hash in the status.
        generation: of that spec.
        now: time of the decision.
        deleting: whether its deletion waits for our finalizer.
        referrers: who refers to it, as `Kind/name`, sorted; only looked up while deleting.
        previous: conditions so far.
    """

    name: str
    spec: MCPExternalAuthConfigSpec | Unreadable
    spec_hash: str
    known_hash: str | None = None
    generation: int
    now: datetime
    deleting: bool = False
    referrers: tuple[str, ...] = ()
    previous: Conditions = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to record."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do.

    Attributes:
        release: let the object go.
        status: fields of the status; None when it is released.
        announcements: events, on transitions only.
    """

    release: bool = False
    status: Mapping[str, Any] | None = None
    announcements: tuple[Announcement, ...] = ()


_READY = Verdict(Type.READY, True, Reason.CONFIG_READY, "The configuration can be used")


def decide(snapshot: Snapshot) -> Decision:
    """Decide on an auth config."""
    if snapshot.deleting and not snapshot.referrers:
        return Decision(release=True)
    valid = _valid(snapshot)
    verdicts = [valid, *sum_up([valid], fine=_READY, passing=()), *_identity(snapshot.spec)]
    if snapshot.deleting:
        verdicts.append(_blocked(snapshot.referrers))
    said = {str(verdict.type) for verdict in verdicts}
    conditions = fold(
        snapshot.previous,
        verdicts,
        drop=[type_ for type_ in Type if type_ not in said],
        generation=snapshot.generation,
        now=snapshot.now,
    )
    status = {
        "observedGeneration": snapshot.generation,
        # A broken spec does not move the hash: nobody shall roll out to it.
        "configHash": snapshot.spec_hash if valid.ok else snapshot.known_hash,
        "conditions": conditions_json(conditions),
    }
    return Decision(status=status, announcements=tuple(_announcements(snapshot.previous, verdicts)))


def _valid(snapshot: Snapshot) -> Verdict:
    spec = snapshot.spec
    if isinstance(spec, Unreadable):
        return Verdict(Type.VALID, False, Reason.VALIDATION_FAILED, spec.message)
    problems = list(_structure_problems(spec))
    if spec.embedded_auth_server is not None:
        problems += auth_server_problems(spec.embedded_auth_server)
    if problems:
        return Verdict(Type.VALID, False, Reason.VALIDATION_FAILED, "; ".join(problems))
    if spec.type == "obo":
        message = "type obo needs a handler that is not part of this build"
        return Verdict(Type.VALID, False, Reason.ENTERPRISE_REQUIRED, message)
    problems = list(_strategy_problems(snapshot.name, spec))
    if problems:
        return Verdict(Type.VALID, False, Reason.INVALID_CONFIG, "; ".join(problems))
    return Verdict(Type.VALID, True, Reason.VALIDATION_SUCCEEDED, "Spec validation passed")


def _structure_problems(spec: MCPExternalAuthConfigSpec) -> Iterator[str]:
    """Yield what the API server's rules refuse, for objects that were stored before those rules."""
    for name in CONFIGURED_TYPES:
        if (getattr(spec, to_snake(name)) is not None) != (spec.type == name):
            yield f"{name} configuration must be set if and only if type is '{name}'"


def _strategy_problems(name: str, spec: MCPExternalAuthConfigSpec) -> Iterator[str]:
    """Yield what the gateway would refuse in the strategy that it gets."""
    converted = convert_strategy(name, spec)
    if isinstance(converted, Converted):
        report = Report()
        check_strategy(converted.strategy, "spec", report)
        yield from (f"{error.path}: {error.message}" for error in report.errors)


def _identity(spec: MCPExternalAuthConfigSpec | Unreadable) -> Iterator[Verdict]:
    if isinstance(spec, Unreadable) or spec.embedded_auth_server is None:
        return
    if synthesizes_identity(spec.embedded_auth_server):
        message = "An oauth2 upstream has neither userInfo nor identityFromToken; users get an identity per token"
        yield Verdict(Type.IDENTITY_SYNTHESIZED, True, Reason.OAUTH2_WITHOUT_USER_INFO, message)
    else:
        message = "Every upstream tells who the user is"
        yield Verdict(Type.IDENTITY_SYNTHESIZED, False, Reason.ALL_HAVE_USER_INFO, message)


def _blocked(referrers: tuple[str, ...]) -> Verdict:
    names = ", ".join(referrers[:MAX_REFERRERS])
    more = len(referrers) - MAX_REFERRERS
    message = f"Cannot delete: still referenced by {names}" + (f" and {more} more" if more > 0 else "")
    return Verdict(Type.DELETION_BLOCKED, True, Reason.REFERENCED_BY_WORKLOADS, message)


def _announcements(previous: Conditions, verdicts: list[Verdict]) -> Iterator[Announcement]:
    before = {condition.type: condition for condition in previous}
    for verdict in verdicts:
        known = before.get(verdict.type)
        status = known.status if known is not None else None
        if verdict.type == Type.VALID and not verdict.ok and status != "False":
            yield Announcement("Warning", "ConfigInvalid", "Validate", verdict.message)
        elif verdict.type == Type.VALID and verdict.ok and status == "False":
            yield Announcement("Normal", "ConfigValid", "Validate", "The configuration is valid again")
        elif verdict.type == Type.DELETION_BLOCKED and status != "True":
            yield Announcement("Warning", "DeletionBlocked", "Delete", verdict.message)
