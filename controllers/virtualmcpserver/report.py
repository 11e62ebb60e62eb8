"""Writes the status of a gateway: once per reconcile, only when it differs, and only what is the operator's.

Two programs write this status. This project's gateway and the operator both use server-side apply, each with its own
field manager. The stock gateway replaces the whole status; towards it a merge patch with the resourceVersion is right,
because then a report that came in between refuses the write instead of being lost.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Dialect
from controllers.shared.resources import VMCP
from controllers.shared.skew import ATTEMPTS, InstalledSchema
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import Conditions, Unreadable, Verdict, conditions_json
from controllers.shared.workload.rollout import Rollout
from controllers.shared.workload.writing import sentence_of
from controllers.virtualmcpserver.conclude import GatewayDecision
from controllers.virtualmcpserver.reports import has_reported, read_report
from controllers.virtualmcpserver.snapshot import Present
from controllers.virtualmcpserver.status import (
    STANDING,
    GatewayHealth,
    blocked_health,
    compose_conditions,
    health_conditions,
    is_own,
    judge_rollout,
    was_ready,
    with_rollout,
)
from runtime import Client, Condition, InvalidError, Record, Recorder, ServerError, parse_conditions
from runtime.util.conditions import condition_items

_FIELDS = (
    "observedGeneration",
    "phase",
    "message",
    "url",
    "oidcConfigHash",
    "authzConfigHash",
    "telemetryConfigHash",
)
"""Fields of the status that are the operator's."""
_WARNED = frozenset(
    {
        str(reason)
        for reason in (
            R.INVALID_POD_TEMPLATE_SPEC,
            R.POD_TEMPLATE_RESTRICTED,
            R.AUTHZ_CONFIG_MAP_INVALID,
            R.AUTHZ_CONFIG_MAP_NOT_FOUND,
            R.NOT_SUPPORTED,
            R.VALIDATION_FAILED,
            R.CONFIG_TOO_LARGE,
            R.FOREIGN_OBJECT,
            R.OBJECT_REFUSED,
            R.CONTESTED,
            R.APPLY_FAILED,
            R.READ_FAILED,
            R.ROLLOUT_STALLED,
        )
    }
)
"""Reasons that are worth an event when they appear."""


class GatewayReporter:
    """Writes status and says in events what changed.

    Attributes:
        schema: what the installed CRD does not know.
    """

    def __init__(self, client: Client, recorder: Recorder, field_manager: str, repairs: StatusRepairs) -> None:
        self.schema = InstalledSchema(VMCP)
        self._client = client
        self._recorder = recorder
        self._field_manager = field_manager
        self._repairs = repairs

    async def report(
        self, present: Present, decision: GatewayDecision, verdict: Verdict | None, rollout: Rollout | None
    ) -> None:
        """Write the status of a decision.

        Args:
            present: what stood when it was made.
            decision: what shall be.
            verdict: whether the objects could be written; None when there was nothing to write.
            rollout: how far the pods have what was written; None when there is no Deployment of ours.
        """
        health, conditions, leave = sum_up(present, decision, verdict, rollout)
        fields = dict(decision.fields)
        if not leave:
            fields |= {"phase": str(health.phase), "message": health.message}
        if await self._write(present.vmcp, fields, conditions, decision.dialect, leave=leave):
            self._tell(present.vmcp, present.previous, conditions)

    async def unread(self, present: Present, dialect: Dialect, error: Exception) -> None:
        """Say that something could not be read, so that nothing was decided; all else stays as it was said before.

        Its observedGeneration, too: nothing is known yet of a generation that came since.
        """
        verdict = Verdict(T.OBJECTS_APPLIED, False, R.READ_FAILED, sentence_of(error))
        made = compose_conditions(
            [verdict.condition(0)],
            present.previous,
            generation=present.generation,
            now=present.now,
        )
        kept = tuple(c for c in present.previous if is_own(c.type) and c.type != T.OBJECTS_APPLIED)
        fields = {name: present.status.get(name) for name in _FIELDS}
        if await self._write(present.vmcp, fields, (*made, *kept), dialect, leave=False):
            self._tell(present.vmcp, present.previous, made)

    async def unreadable(self, record: Record, problem: Unreadable, now: datetime) -> None:
        """Write the status of an object that does not fit its model."""
        verdict = Verdict(T.VALID, False, R.VALIDATION_FAILED, problem.message)
        health = blocked_health(verdict)
        previous, generation = parse_conditions(record.path("status.conditions")), record.meta.generation
        wanted = [*health_conditions(health), verdict.condition(generation)]
        conditions = compose_conditions(wanted, previous, generation=generation, now=now)
        fields = {"observedGeneration": generation, "phase": str(health.phase), "message": health.message}
        await self._write(record, fields, conditions, Dialect.NATIVE, leave=False)

    async def _write(
        self, record: Record, fields: dict[str, Any], conditions: Conditions, dialect: Dialect, *, leave: bool
    ) -> bool:
        """Write what differs; what the installed CRD does not know is left out, and CRDOutdated says so.

        Returns:
            Whether the status is as it should be; False while a repair waits because somebody else keeps writing it.
        """
        wanted = fields | {"conditions": conditions_json(conditions)}
        for _ in range(ATTEMPTS):
            version, fitted = self.schema.version, self.schema.fit(record, wanted)
            if not _differs(_status_of(record), fitted, leave=leave):
                break
            # The stock gateway replaces the whole status with each report: that is its way, and no contest.
            contestable = dialect is Dialect.NATIVE
            if contestable and not await self._repairs.may_write(record, fitted):
                return False
            self.schema.sending(fitted)
            try:
                written = await self._send(record, fitted, dialect, leave=leave)
            except (InvalidError, ServerError) as error:
                if not self.schema.refused(error, fitted):
                    raise
                continue
            record = written
            if contestable:
                self._repairs.wrote(record, fitted)
            self.schema.answered(fitted, written.path("status"))
            if self.schema.version == version:
                break
        return True

    async def _send(self, record: Record, fields: dict[str, Any], dialect: Dialect, *, leave: bool) -> Record:
        if dialect is Dialect.TOOLHIVE:
            return await self._patch(record, fields, leave=leave)
        body = {
            "apiVersion": record.resource.api_version,
            "kind": record.resource.kind,
            "metadata": {"name": record.meta.name, "namespace": record.meta.namespace, "uid": record.meta.uid},
            "status": {key: value for key, value in fields.items() if value is not None},
        }
        written = await self._client.apply(VMCP, body, field_manager=self._field_manager, subresource="status")
        if _differs(_status_of(written), fields, leave=False):
            # Left over from an operator that wrote by update, and so not ours to drop by applying.
            return await self._patch(written, fields, leave=False)
        return written

    async def _patch(self, record: Record, fields: dict[str, Any], *, leave: bool) -> Record:
        present = _status_of(record).get("conditions") or []
        others = [item for item in present if not _is_operators(str(item.get("type")), leave=leave)]
        patch = fields | {"conditions": (fields["conditions"] or []) + others}
        return await self._client.merge_patch(
            VMCP,
            record.key,
            {"status": patch},
            resource_version=record.meta.resource_version,
            subresource="status",
        )

    def _tell(self, record: Record, before: Conditions, after: Conditions) -> None:
        reasons = {condition.type: (condition.status, condition.reason, condition.message) for condition in before}
        for condition in after:
            old = reasons.get(condition.type)
            if condition.type == T.BACKENDS_INCLUDED:
                self._tell_members(record, old, condition)
            elif condition.reason in _WARNED and (old is None or old[1] != condition.reason):
                self._recorder.event(
                    record, type="Warning", reason=condition.reason, action="Reconcile", note=condition.message
                )

    def _tell_members(self, record: Record, old: tuple[str, str, str] | None, condition: Condition) -> None:
        if condition.status == "False" and (old is None or old[2] != condition.message):
            self._recorder.event(
                record, type="Warning", reason=condition.reason, action="SelectBackends", note=condition.message
            )
        elif condition.status == "True" and old is not None and old[0] == "False":
            self._recorder.event(
                record, type="Normal", reason=condition.reason, action="SelectBackends", note=condition.message
            )


def sum_up(
    present: Present, decision: GatewayDecision, verdict: Verdict | None, rollout: Rollout | None
) -> tuple[GatewayHealth, Conditions, bool]:
    """Sum up what was decided, what could be written, and what the pods make of it.

    Returns:
        The health, all conditions of the operator, and whether phase, message and Ready are left to a stock gateway.
    """
    health, leave = decision.health, decision.health_is_reported
    generation = present.generation
    held_back = not was_ready(present.previous, generation)
    added: list[Condition] = []
    if rollout is not None:
        rolled = judge_rollout(rollout, present.pods)
        added.append(rolled.condition(0))
        if verdict is not None:
            health = with_rollout(health, rollout, rolled, held_back=held_back)
            leave = leave and (rollout.serving or not held_back)
    if verdict is not None:
        added.append(verdict.condition(0))
        standing = STANDING if not held_back else {R.CONTESTED}
        if not verdict.ok and verdict.reason not in standing:
            health, leave = blocked_health(verdict), False
    summed = [] if leave else health_conditions(health)
    made = compose_conditions([*summed, *added], present.previous, generation=generation, now=present.now)
    replaced = {str(T.READY), str(T.STALLED), *(condition.type for condition in made)}
    return health, (*made, *(c for c in decision.conditions if c.type not in replaced)), leave


def _is_operators(condition_type: str, *, leave: bool) -> bool:
    return is_own(condition_type) and not (leave and condition_type == T.READY)


def _status_of(record: Record) -> dict[str, Any]:
    status = record.path("status")
    return status if isinstance(status, dict) else {}


def _differs(present: dict[str, Any], fields: dict[str, Any], *, leave: bool) -> bool:
    if any(present.get(key) != value for key, value in fields.items() if key != "conditions"):
        return True
    items = {item["type"]: item for item in condition_items(present.get("conditions"))}
    own = {type_: item for type_, item in items.items() if _is_operators(type_, leave=leave)}
    return own != {item["type"]: item for item in fields["conditions"] or []}


def status_view(status: dict[str, Any]) -> tuple[Any, ...]:
    """Return what of a status may change a decision: everything but the times of reports.

    Once a report was overdue, its time is what tells that there is another one.
    """
    conditions = tuple(
        (item.get("type"), item.get("status"), item.get("reason"), item.get("message"))
        for item in condition_items(status.get("conditions"))
    )
    overdue = any(type_ == T.BACKENDS_REPORTED and state == "False" for type_, state, _, _ in conditions)
    reported = read_report(status), has_reported(status), status.get("lastReportTime") if overdue else None
    return tuple(status.get(key) for key in _FIELDS), reported, conditions
