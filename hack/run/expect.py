"""What the samples must come to, as config/samples/expected.yaml says, and what an object has come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from api.v1beta1 import KINDS
from hack.controlplane import Object

ROOT = Path(__file__).parents[2]
FILE = "config/samples/expected.yaml"
GROUP = "toolhive.stacklok.dev/"
SILENT = frozenset(kind.__name__ for kind in KINDS if not kind.definition.reconciled)
"""Kinds that are read where something refers to them, and have no status of the operator's."""


class SampleError(ValueError):
    """What is expected of a sample is not said, or cannot be read."""


@dataclass(frozen=True)
class Condition:
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str = ""

    def __str__(self) -> str:
        """`Valid=False/ConfigInvalid`, as in the file."""
        return f"{self.type}={self.status}/{self.reason}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `__str__` writes."""
        type_, equals, rest = text.partition("=")
        status, slash, reason = rest.partition("/")
        if not equals or not slash:
            raise SampleError(f"{text!r}: expected Type=Status/Reason")
        return cls(type_, status, reason)


@dataclass(frozen=True)
class State:
    """The part of an object's status that people look at."""

    kind: str
    name: str
    phase: str
    conditions: tuple[Condition, ...]
    created: str
    observed: bool
    """Whether the status speaks about the present spec."""

    @classmethod
    def of(cls, body: Object) -> Self:
        """Read an object."""
        meta, status = body["metadata"], body.get("status") or {}
        return cls(
            kind=body["kind"],
            name=meta["name"],
            phase=status.get("phase", ""),
            conditions=tuple(
                Condition(c["type"], c["status"], c.get("reason", ""), c.get("message", ""))
                for c in status.get("conditions") or []
            ),
            created=meta["creationTimestamp"],
            observed=status.get("observedGeneration") == meta["generation"],
        )


@dataclass(frozen=True)
class Expectation:
    """What one sample must come to."""

    api_version: str
    kind: str
    name: str
    phase: str | None
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, sample: Object, table: Mapping[str, Any]) -> Self:
        """Look a sample up in the table; raises `SampleError` when it is not there or makes no sense."""
        name = sample["metadata"]["name"]
        where = f"{sample['kind']}/{name}"
        expected = table.get(where)
        if not isinstance(expected, dict) or not expected.keys() <= {"phase", "conditions"}:
            raise SampleError(f"{where}: {FILE} must say its phase and conditions")
        try:
            conditions = tuple(Condition.parse(text) for text in expected.get("conditions", []))
        except SampleError as error:
            raise SampleError(f"{where}: {error}") from error
        return cls(sample["apiVersion"], sample["kind"], name, expected.get("phase"), conditions)

    def misses(self, state: State | None) -> list[str]:
        """What is not as expected; empty: all is."""
        if state is None:
            return ["is not there"]
        found = [] if state.observed else ["the status is not about the present spec"]
        if self.phase is not None and state.phase != self.phase:
            found.append(f"phase is {state.phase or 'not set'}, expected {self.phase}")
        actual = {c.type: c for c in state.conditions}
        for wanted in self.conditions:
            have = actual.get(wanted.type)
            if have is None:
                found.append(f"condition {wanted.type} is not set, expected {wanted}")
            elif (have.status, have.reason) != (wanted.status, wanted.reason):
                found.append(f"condition is {have}, expected {wanted}")
        return found


def expectations(samples: Iterable[Object], table: Mapping[str, Any]) -> list[Expectation]:
    """The expectations of all samples that are of our kinds and get a status from the operator, in their order."""
    return [
        Expectation.of(sample, table)
        for sample in samples
        if sample["apiVersion"].startswith(GROUP) and sample["kind"] not in SILENT
    ]


def read_table() -> dict[str, Any]:
    """What config/samples/expected.yaml holds: Kind/name -> phase and conditions."""
    table: dict[str, Any] = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
    return table
