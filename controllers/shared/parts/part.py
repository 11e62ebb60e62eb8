"""What one reference comes to: a verdict, a section of the configuration, variables, volumes, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from api.contract.volumes import VolumeInput
from controllers.shared.resources import CONFIG_MAP, SECRET
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.pod import Variable
from membership import Material
from runtime import Condition, Resource

Section_co = TypeVar("Section_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Words:
    """What a kind calls the check of a reference.

    Attributes:
        type: condition type.
        valid: reason when the object can be used.
        not_found: reason when it does not exist.
        invalid: reason when it cannot be used.
    """

    type: str
    valid: str
    not_found: str
    invalid: str


@dataclass(frozen=True, slots=True)
class Need:
    """A key of a Secret, or a certificate in a ConfigMap, without which a check fails.

    Attributes:
        kind: Secret or ConfigMap.
        name: of the object.
        key: in it.
        otherwise: the verdict while it is not there.
    """

    kind: Resource
    name: str
    key: str
    otherwise: Verdict

    def met(self, material: Material) -> bool:
        """Whether it is there, or could not be looked at for a passing reason."""
        if self.kind == SECRET:
            return material.has_key(self.name, self.key)
        return material.has_certificate(self.name, self.key)


@dataclass(frozen=True, slots=True)
class CaVolume:
    """A certificate to mount."""

    input: VolumeInput
    config_map: str
    key: str


def secret_needs(references: Iterable[tuple[str, str]], refused: Callable[[str], Verdict]) -> tuple[Need, ...]:
    """Return the needs for keys of Secrets.

    Args:
        references: (Secret, key) of each.
        refused: makes a verdict of what is missing: `Secret "s" with key "k"`.
    """
    return tuple(Need(SECRET, name, key, refused(f'Secret "{name}" with key "{key}"')) for name, key in references)


def bundle_needs(volumes: Iterable[CaVolume], refused: Callable[[str], Verdict]) -> tuple[Need, ...]:
    """Return the needs for certificates.

    Args:
        volumes: what mounts them.
        refused: makes a verdict of a clause that says what is missing.
    """
    return tuple(
        Need(
            CONFIG_MAP,
            volume.config_map,
            volume.key,
            refused(f'ConfigMap "{volume.config_map}" has no certificate under "{volume.key}"'),
        )
        for volume in volumes
    )


@dataclass(frozen=True, kw_only=True)
class Part(Generic[Section_co]):
    """What one reference comes to.

    Attributes:
        section: its part of the configuration; the empty one where the reference cannot be used.
        checks: verdicts, and needs that become one, in the order in which they count.
        variables: for the gateway's pods.
        volumes: for the gateway's pods.
        advice: conditions that stop nothing.
    """

    section: Section_co
    checks: tuple[Verdict | Need, ...] = ()
    variables: tuple[Variable, ...] = ()
    volumes: tuple[CaVolume, ...] = ()
    advice: tuple[Condition, ...] = ()


def judged(parts: Iterable[Part[object]], material: Material) -> Iterator[Verdict]:
    """Yield the verdicts of parts, those of needs that are not met included."""
    for part in parts:
        for check in part.checks:
            if isinstance(check, Verdict):
                yield check
            elif not check.met(material):
                yield check.otherwise
