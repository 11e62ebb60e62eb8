"""From verdicts to conditions, and from conditions to a status that is written only when it differs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from controllers.shared.decided import Decided
from controllers.shared.skew import ATTEMPTS, InstalledSchema
from controllers.shared.status_repairs import StatusRepairs
from runtime import (
    Client,
    Condition,
    Event,
    InvalidError,
    NotFoundError,
    Record,
    Resource,
    remove_condition,
    set_condition,
)
from runtime.util.times import format_time

M = TypeVar("M", bound=BaseModel)
Conditions = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check; type and reason are words of `api.conditions`. `ok` is None for one not made yet."""

    type: str
    ok: bool | None
    reason: str
    message: str

    def condition(self, generation: int, now: str = "") -> Condition:
        """Return the condition that says this; `now` counts as its transition unless it said so before."""
        status: Literal["True", "False", "Unknown"] = "Unknown" if self.ok is None else "True" if self.ok else "False"
        return Condition(str(self.type), status, str(self.reason), self.message, generation, now)


def one_per_type(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Keep one verdict per condition type: the first that is not ok, else the first."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        before = found.get(str(verdict.type))
        if before is None or (before.ok and not verdict.ok):
            found[str(verdict.type)] = verdict
    return tuple(found.values())


def fold(
    previous: Conditions, verdicts: Iterable[Verdict], *, drop: Iterable[str] = (), generation: int, now: datetime
) -> Conditions:
    """Return the previous conditions with the verdicts put in and `drop` taken out; transition times are kept."""
    conditions, stamp = previous, format_time(now)
    for verdict in verdicts:
        conditions = set_condition(conditions, verdict.condition(generation, stamp), now=now)
    for type_ in drop:
        conditions = remove_condition(conditions, str(type_))
    return conditions


READY, STALLED = "Ready", "Stalled"
"""Condition types that every kind has; tools that know no kind wait for the one and give up at the other."""


def sum_up(verdicts: Iterable[Verdict], *, fine: Verdict, passing: Container[str]) -> list[Verdict]:
    """Ready, and Stalled when only the user can mend what failed.

    Args:
        verdicts: of all checks, in the order in which they become the reason.
        fine: Ready when none of them failed.
        passing: reasons that may end without the user.

    Returns:
        Ready with the reason of the first failure (what is known to be wrong comes before what is not known), and
        Stalled=True with the first reason that will not pass, if there is one. Otherwise Stalled is to be absent.
    """
    failures = sorted((verdict for verdict in verdicts if not verdict.ok), key=lambda verdict: verdict.ok is None)
    if not failures:
        return [fine]
    first = failures[0]
    found = [Verdict(READY, first.ok, first.reason, first.message)]
    stuck = next((v for v in failures if v.ok is False and v.reason not in passing), None)
    if stuck is not None:
        found.append(Verdict(STALLED, True, stuck.reason, stuck.message))
    return found


def standing(condition: Condition) -> Verdict:
    """Return the verdict that a condition holds."""
    ok = {"True": True, "False": False}.get(condition.status)
    return Verdict(condition.type, ok, condition.reason, condition.message)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that does not fit its model; the message says what is wrong with it."""

    message: str


def read_model(record: Record, model: type[M], *, keep: bool = False) -> M | Unreadable:
    """Parse an object. What the schema lets through and the model does not is the user's mistake, not a crash.

    The model is not kept with the record, as `Record.as_model` would: a typed entry takes 11.6 KB, more than twice what
    the cache holds of it, and after a start every entry of the cluster would keep one. Parsing takes tens of
    microseconds, once per reconcile.

    Args:
        record: the object.
        model: its model.
        keep: keep it nevertheless: for kinds of which there are few, and that are looked at again and again.
    """
    try:
        return record.as_model(model) if keep else model.model_validate_json(record.raw)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors(include_input=False))
        return Unreadable(f"the object cannot be read: {'; '.join(problems)}")


def status_patch(record: Record, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes the fields of the status what is wanted; None stands for absent."""
    status = record.path("status")
    current = status if isinstance(status, dict) else {}
    return {key: value for key, value in wanted.items() if current.get(key) != value}


class StatusWriter:
    """Writes the status of objects that have one writer, and knows its own writes again.

    The write carries the resourceVersion that the decision was made from, so a decision about an old state is refused
    by the server instead of replacing a newer one.

    Args:
        client: writes.
        kind: of the objects.
        repairs: the rate at which what others change is written again; None: at once.
        decided: is told of each status before it is written; None where nobody goes by it.

    Attributes:
        schema: what the installed CRD does not know.
    """

    def __init__(
        self,
        client: Client,
        kind: Resource,
        repairs: StatusRepairs | None = None,
        decided: Decided | None = None,
    ) -> None:
        self._client = client
        self._decided = decided
        self.schema = InstalledSchema(kind)
        self.repairs = repairs
        self._last: dict[str, str] = {}
        self._writing: set[str] = set()

    def differs(self, record: Record, wanted: Mapping[str, Any]) -> bool:
        """Whether there is something to write, by what the installed CRD can keep."""
        return bool(status_patch(record, self.schema.fit(record, wanted)))

    async def write(self, record: Record, wanted: Mapping[str, Any]) -> Record:
        """Write what differs; return the object as it is then. One that is gone needs no status: nothing is said.

        What the installed CRD does not know is left out, and the condition CRDOutdated says so. Against somebody who
        keeps writing another status the repair may wait: `StatusRepairs.due_in`.

        Raises:
            ConflictError: the object changed since it was read.
        """
        for _ in range(ATTEMPTS):
            version, fitted = self.schema.version, self.schema.fit(record, wanted)
            patch = status_patch(record, fitted)
            if not patch or not await self._may_write(record, fitted):
                break
            self.schema.sending(patch)
            try:
                written = await self._patch(record, patch)
            except NotFoundError:
                break
            except InvalidError as error:
                if not self.schema.refused(error, patch):
                    raise
                continue
            record = written
            if self.repairs is not None:
                self.repairs.wrote(record, fitted)
            self.schema.answered(patch, written.path("status"))
            if self.schema.version == version:
                break
        return record

    async def _may_write(self, record: Record, fitted: Mapping[str, Any]) -> bool:
        return self.repairs is None or await self.repairs.may_write(record, fitted)

    async def _patch(self, record: Record, patch: Mapping[str, Any]) -> Record:
        uid = record.meta.uid
        self._writing.add(uid)
        try:
            if self._decided is not None:
                self._decided.tell(record, patch)
            written = await self._client.merge_patch(
                record.resource,
                record.key,
                {"status": patch},
                resource_version=record.meta.resource_version,
                subresource="status",
            )
        except BaseException:
            if self._decided is not None:
                self._decided.withdraw(record)
            raise
        finally:
            self._writing.discard(uid)
        self._last[uid] = written.meta.resource_version
        return written

    def forget(self, record: Record) -> None:
        """The object is gone."""
        self._last.pop(record.meta.uid, None)
        if self.repairs is not None:
            self.repairs.forget(record.key)

    def matters(self, event: Event) -> bool:
        """Predicate for the reconciled kind: all but the echo of own status writes and changes of mere metadata.

        A status that somebody else edited matters: it is repaired.
        """
        old, new = event.old, event.new
        if old is None or new is None:
            if old is not None:
                self.forget(old)
            return True
        if old.meta.generation != new.meta.generation or old.meta.deletion_timestamp != new.meta.deletion_timestamp:
            return True
        if old.meta.finalizers != new.meta.finalizers:
            return True
        # The watch may be faster than the answer. If it was another writer's change, ours ends in a conflict and is
        # tried again, so nothing is lost by not looking at it here.
        if new.meta.uid in self._writing or new.meta.resource_version == self._last.get(new.meta.uid):
            return False
        return bool(old.path("status") != new.path("status"))


def conditions_json(conditions: Conditions) -> list[dict[str, Any]]:
    """Return the conditions as they stand in a status."""
    return [condition.as_dict() for condition in conditions]
