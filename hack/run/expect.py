"""What a sample must come to, as its annotation says, and what an object has come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import yaml

from hack.controlplane import Object

ANNOTATION = "samples.mcp-operator/expect"
GROUP = "toolhive.stacklok.dev/"


class SampleError(ValueError):
    """A sample's annotation cannot be read."""


@dataclass(frozen=True)
class Condition:
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str = ""

    def __str__(self) -> str:
        """`Valid=False/ConfigInvalid`, as in the annotations."""
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
    def of(cls, sample: Object) -> Self:
        """Read a sample's annotation; raises `SampleError` when there is none or it makes no sense."""
        meta = sample["metadata"]
        where = f"{sample['kind']}/{meta['name']}"
        expected = yaml.safe_load((meta.get("annotations") or {}).get(ANNOTATION) or "")
        if not isinstance(expected, dict) or not expected.keys() <= {"phase", "conditions"}:
            raise SampleError(f"{where}: annotation {ANNOTATION} must hold phase and conditions")
        try:
            conditions = tuple(Condition.parse(text) for text in expected.get("conditions", []))
        except SampleError as error:
            raise SampleError(f"{where}: {error}") from error
        return cls(sample["apiVersion"], sample["kind"], meta["name"], expected.get("phase"), conditions)

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


def expectations(samples: Iterable[Object]) -> list[Expectation]:
    """The expectations of all samples that are of our kinds, in their order."""
    return [Expectation.of(sample) for sample in samples if sample["apiVersion"].startswith(GROUP)]
