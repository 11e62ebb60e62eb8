"""What the two kinds for remote servers, MCPServerEntry and MCPRemoteEndpoint, have in common when they are judged.

Look at the cache, learn from Secrets and the CA bundle's ConfigMap what must be known, decide, write the status once.
What they look at beyond that, their words, and the proxies of endpoints are their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.common.headers import HeaderForwardConfig
from controllers.shared import references
from controllers.shared.content import Content, Unknown, contents
from controllers.shared.decided import decided
from controllers.shared.depends import Depends
from controllers.shared.groups import GroupState, Patience
from controllers.shared.references import came_or_went
from controllers.shared.remote import ContentReads, gather_material, secret_names
from controllers.shared.resources import CONFIG_MAP, SECRET
from controllers.shared.status_repairs import StatusRepairs
from controllers.shared.verdicts import Conditions, StatusWriter, Verdict, standing
from runtime import Key, Manager, Record, Resource, Result
from runtime.control.predicates import always


def remote_depends(rivals: Iterable[Resource], *, deploys: bool = False) -> tuple[Depends, ...]:
    """Return what both kinds depend on in the same way.

    Args:
        rivals: the other kinds whose objects may have the same name.
        deploys: objects of the kind may have a ConfigMap of their own, and refer to more than headers and bundles.
    """
    noted = always if deploys else None
    return (
        *(
            Depends(kind, by=references.same_name, when=came_or_went, why="an older workload of the same name wins")
            for kind in rivals
        ),
        Depends(
            SECRET,
            by=references.HEADER_SECRETS,
            noted=noted,
            why="Secrets of headers and proxies are watched as metadata"
            if deploys
            else "header Secrets are watched as metadata",
            content="whether a Secret has its key is read by name, once per change",
        ),
        Depends(
            CONFIG_MAP,
            by=references.CA_BUNDLE_REF,
            noted=noted,
            owned=deploys,
            why="CA bundles, policies and configurations of proxies are watched as metadata"
            if deploys
            else "CA bundles are watched as metadata",
            content="CA bundles and policies are read by name, once per change"
            if deploys
            else "whether a CA bundle holds a certificate is read by name, once per change",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberObservation:
    """What both kinds' decisions depend on.

    Attributes:
        generation: of the spec.
        now: time of the decision.
        group: the group that it names.
        bundle: the ConfigMap of the CA bundle; meaningless without a reference.
        secrets: the Secrets of its headers by name.
        unread: why what is `Unknown.UNREAD` could not be read.
        previous: conditions so far.
        waited: seconds that it has waited for a verdict.
    """

    generation: int
    now: datetime
    group: GroupState = GroupState.MISSING
    bundle: Content = Unknown.MISSING
    secrets: Mapping[str, Content] = field(default_factory=dict)
    unread: str = ""
    previous: Conditions = ()
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do.

    Attributes:
        status: fields of the status; None to leave it alone.
        wait: seconds until the object must be looked at again; None to wait for events.
        again: the same after the status was written: for what no event tells.
    """

    status: Mapping[str, Any] | None = None
    wait: float | None = None
    again: float | None = None


def with_kept(
    seen: MemberObservation, verdicts: Iterable[Verdict], *, none: Container[str] = ()
) -> list[Verdict] | None:
    """Let checks that could not be made keep what was said of them last.

    Args:
        seen: what was looked at.
        verdicts: of all checks; `ok` is None for those that could not be made.
        none: reasons that are no verdict about content.

    Returns:
        The verdicts, Unknown only where there never was one. None when the last word is about an older spec: a backend
        that works is not taken away because of a passing error, and an old verdict is not passed off as a new one.
    """
    before = {c.type: c for c in seen.previous if c.status != "Unknown" and c.reason not in none}
    found = []
    for verdict in verdicts:
        last = before.get(verdict.type) if verdict.ok is None else None
        if last is not None and last.observed_generation != seen.generation:
            return None
        found.append(standing(last) if last is not None else verdict)
    return found


class RemoteReconciler(ABC):
    """Keeps the status of one of the two kinds. Never opens a connection to a remote server.

    Args:
        manager: gives reader and client.
        kind: what is reconciled.
    """

    def __init__(self, manager: Manager, kind: Resource) -> None:
        self._reader, self._kind = manager.reader, kind
        self._secrets, self._config_maps = contents(manager, SECRET), contents(manager, CONFIG_MAP)
        self._patience = Patience()
        recorder = manager.recorder(f"{kind.kind.lower()}-controller")
        self.status = StatusWriter(manager.client, kind, StatusRepairs(manager, kind, recorder), decided(manager))

    @abstractmethod
    async def judge(self, record: Record) -> tuple[Decision, Exception | None]:
        """Look and decide; the error is a passing one that kept something from being read."""

    async def reconcile(self, request: Key) -> Result | None:
        """Judge one object and write its status if that changes it.

        Raises:
            Exception: something could not be read for a passing reason; said in the status, to be tried again.
        """
        record = self._reader.get(self._kind, request)
        if record is None:
            self._patience.forget(request)
            return None
        decision, error = await self.judge(record)
        if decision.wait is not None:
            return Result(requeue_after=decision.wait)
        if decision.status is not None:
            self._patience.forget(request)
            await self.status.write(record, decision.status)
        if error is not None:
            raise error
        return Result(requeue_after=decision.again) if decision.again is not None else None

    def waited(self, record: Record, group: GroupState, previous: Conditions) -> float:
        """Return the seconds that an object without a verdict has waited for its group."""
        return 0.0 if previous or group is GroupState.READY else self._patience.waited(record.key)

    async def material(self, record: Record, forward: HeaderForwardConfig | None, config_map: str) -> ContentReads:
        """Learn what is in the Secrets of the headers and in the CA bundle's ConfigMap ("" for none)."""
        names = secret_names(forward)
        return await gather_material(record.meta.namespace, names, config_map, self._secrets, self._config_maps)
