"""How lists of many backends become one: the settings of aggregation, free of the configuration file's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DEFAULT_PREFIX_FORMAT = "{workload}_"


class ConflictPolicy(StrEnum):
    """What happens to names."""

    PREFIX = "prefix"
    """Every tool and prompt is prefixed, always."""
    PRIORITY = "priority"
    """Names stay; of equal ones the backend that stands first in the order wins."""
    MANUAL = "manual"
    """Names stay; equal ones must have been told apart by overrides."""
    PREFIX_ON_CONFLICT = "prefixOnConflict"
    """Names stay; all bearers of an equal name are prefixed."""


@dataclass(frozen=True, slots=True)
class Override:
    """What to change on one tool.

    Attributes:
        name: New name before prefixing; None = keep.
        description: New description; None = keep.
        annotations: Members to set inside `annotations`; others stay.
    """

    name: str | None = None
    description: str | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkloadRules:
    """The rules for one backend's tools.

    Attributes:
        filter: Names to offer, compared after overrides and before prefixing; empty = all.
        exclude_all: Offer none.
        overrides: By the backend's own tool name.
    """

    filter: frozenset[str] = frozenset()
    exclude_all: bool = False
    overrides: Mapping[str, Override] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AggregationRules:
    """The rules for a whole gateway.

    Attributes:
        strategy: What happens to equal names.
        prefix_format: Put before names; every `{workload}` is replaced by the backend's name.
        priority: Backend names, first wins; used by `priority` only.
        exclude_all_tools: Offer no tool at all (prompts and resources stay).
        deny_by_default: Offer no tool of a backend that has no entry in `workloads`.
        workloads: By backend name.
        max_name: Characters of an advertised tool or prompt name; longer ones are shortened. 0 = they stay.
    """

    strategy: ConflictPolicy = ConflictPolicy.PREFIX
    prefix_format: str = DEFAULT_PREFIX_FORMAT
    priority: tuple[str, ...] = ()
    exclude_all_tools: bool = False
    deny_by_default: bool = False
    workloads: Mapping[str, WorkloadRules] = field(default_factory=dict)
    max_name: int = 0

    def prefixed(self, backend: str, name: str) -> str:
        """Return the name with this backend's prefix."""
        return self.prefix_format.replace("{workload}", backend) + name

    def rank(self, backend: str) -> int | None:
        """Return the place in the priority order; None = not listed."""
        try:
            return self.priority.index(backend)
        except ValueError:
            return None

    def visible(self, backend: str, name: str) -> bool:
        """Say whether a tool is offered; `name` is the one after overrides and before prefixing."""
        if self.exclude_all_tools:
            return False
        rules = self.workloads.get(backend)
        if rules is None:
            return not self.deny_by_default
        if rules.exclude_all:
            return False
        return not rules.filter or name in rules.filter
