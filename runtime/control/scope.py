"""Which reconcile the running code belongs to, for log lines.

Set once per attempt and formatted only when a line is really written: binding half a dozen values to every reconcile
would cost more than most reconciles that find nothing to do.
"""

from __future__ import annotations

import uuid
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from runtime.wire.gvk import Key, Resource


class ReconcileScope:
    """One attempt of one reconcile."""

    __slots__ = ("_id", "controller", "kind", "request")

    def __init__(self, controller: str, kind: Resource | None, request: Key) -> None:
        self.controller = controller
        self.kind = kind
        self.request = request
        self._id = ""

    @property
    def reconcile_id(self) -> str:
        """A UUID, made when first asked for."""
        if not self._id:
            self._id = str(uuid.uuid4())
        return self._id


current_scope: ContextVar[ReconcileScope | None] = ContextVar("reconcile_scope", default=None)


def reconcile_id() -> str:
    """The id of the running attempt, as in its log lines; empty outside of reconciles."""
    scope = current_scope.get()
    return scope.reconcile_id if scope is not None else ""


def add_scope(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the keys under which controller-runtime logs a reconcile."""
    scope = current_scope.get()
    if scope is None:
        return event
    event.setdefault("controller", scope.controller)
    if scope.kind is not None:
        event["controllerGroup"] = scope.kind.group
        event["controllerKind"] = scope.kind.kind
        event[scope.kind.kind] = {"namespace": scope.request.namespace, "name": scope.request.name}
    event.setdefault("namespace", scope.request.namespace)
    event.setdefault("name", scope.request.name)
    event["reconcileID"] = scope.reconcile_id
    return event
