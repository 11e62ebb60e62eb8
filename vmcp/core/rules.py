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
    renamed: Mapping[str, str] = field(init=False, repr=False)
    """New name -> the backend's own; of several overrides with one name the first in their order counts."""

    def __post_init__(self) -> None:
        renamed: dict[str, str] = {}
        for original, override in self.overrides.items():
            if override.name:
                renamed.setdefault(override.name, original)
        object.__setattr__(self, "renamed", renamed)


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

    def override(self, backend: str, original: str) -> Override | None:
        """Return what to change on a tool; None = nothing."""
        rules = self.workloads.get(backend)
        return None if rules is None else rules.overrides.get(original)

    def renamed(self, backend: str) -> Mapping[str, str]:
        """Return the backend's own names of the tools that overrides rename, by their new names."""
        rules = self.workloads.get(backend)
        return {} if rules is None else rules.renamed

    def changes(self, backend: str) -> bool:
        """Say whether anything of a backend's list of tools is left out or changed."""
        rules = self.workloads.get(backend)
        return self.exclude_all_tools or (
            self.deny_by_default if rules is None else bool(rules.filter or rules.exclude_all or rules.overrides)
        )

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
