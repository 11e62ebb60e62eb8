"""A controller runtime on raw list/watch loops. Knows nothing of MCP.

These are the names that a controller needs; everything else is private. They are loaded on first use: a program that
only wants the metrics or the logs of the runtime does not pay for a Kubernetes client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.cache import Reader
    from runtime.client import Client
    from runtime.control.builder import Builder
    from runtime.control.controller import ControllerOptions
    from runtime.control.predicates import (
        Event,
        all_of,
        any_of,
        generation_changed,
        labels_changed,
        never,
        path_changed,
        resource_version_changed,
    )
    from runtime.control.reconcile import Reconciler, Request, Result, TerminalError
    from runtime.election.options import ElectionOptions
    from runtime.events.recorder import Recorder
    from runtime.manager.manager import Manager
    from runtime.manager.options import ManagerOptions
    from runtime.util.conditions import Condition, parse_conditions, remove_condition, set_condition
    from runtime.util.finalizers import add_finalizer, remove_finalizer
    from runtime.util.owner import controller_reference, set_controller_reference
    from runtime.util.rbac import Rule
    from runtime.wire.errors import (
        AlreadyExistsError,
        ApiError,
        ConflictError,
        ForbiddenError,
        InvalidError,
        NotFoundError,
        ServerError,
        TransportError,
    )
    from runtime.wire.gvk import Key, Resource
    from runtime.wire.record import Record

_HOMES = {
    "runtime.cache": ("Reader",),
    "runtime.client": ("Client",),
    "runtime.control.builder": ("Builder",),
    "runtime.control.controller": ("ControllerOptions",),
    "runtime.control.predicates": (
        "Event",
        "all_of",
        "any_of",
        "generation_changed",
        "labels_changed",
        "never",
        "path_changed",
        "resource_version_changed",
    ),
    "runtime.control.reconcile": ("Reconciler", "Request", "Result", "TerminalError"),
    "runtime.election.options": ("ElectionOptions",),
    "runtime.events.recorder": ("Recorder",),
    "runtime.manager.manager": ("Manager",),
    "runtime.manager.options": ("ManagerOptions",),
    "runtime.util.conditions": ("Condition", "parse_conditions", "remove_condition", "set_condition"),
    "runtime.util.finalizers": ("add_finalizer", "remove_finalizer"),
    "runtime.util.owner": ("controller_reference", "set_controller_reference"),
    "runtime.util.rbac": ("Rule",),
    "runtime.wire.errors": (
        "AlreadyExistsError",
        "ApiError",
        "ConflictError",
        "ForbiddenError",
        "InvalidError",
        "NotFoundError",
        "ServerError",
        "TransportError",
    ),
    "runtime.wire.gvk": ("Key", "Resource"),
    "runtime.wire.record": ("Record",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyExistsError",
    "ApiError",
    "Builder",
    "Client",
    "Condition",
    "ConflictError",
    "ControllerOptions",
    "ElectionOptions",
    "Event",
    "ForbiddenError",
    "InvalidError",
    "Key",
    "Manager",
    "ManagerOptions",
    "NotFoundError",
    "Reader",
    "Reconciler",
    "Record",
    "Recorder",
    "Request",
    "Resource",
    "Result",
    "Rule",
    "ServerError",
    "TerminalError",
    "TransportError",
    "add_finalizer",
    "all_of",
    "any_of",
    "controller_reference",
    "generation_changed",
    "labels_changed",
    "never",
    "parse_conditions",
    "path_changed",
    "remove_condition",
    "remove_finalizer",
    "resource_version_changed",
    "set_condition",
    "set_controller_reference",
]


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
