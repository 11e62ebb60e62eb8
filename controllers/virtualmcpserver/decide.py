"""The stages of one decision. No IO, no clock, no randomness: the same observation gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from controllers.shared.parts.learned import Learned
from controllers.virtualmcpserver.choose import choose
from controllers.virtualmcpserver.conclude import GatewayDecision, conclude
from controllers.virtualmcpserver.parts import Parts
from controllers.virtualmcpserver.render import render
from controllers.virtualmcpserver.snapshot import Present

__all__ = ["GatewayDecision", "Observed", "decide"]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All that a decision depends on; what observing gives (`observe`).

    Attributes:
        parts: what the spec and its references come to (`resolve`).
        learned: what is known of the Secrets and ConfigMaps that the parts name.
        present: what stands already.
    """

    parts: Parts
    learned: Learned = field(default_factory=Learned)
    present: Present


def decide(observed: Observed) -> GatewayDecision:
    """Decide: members become backends, backends a configuration and objects, and all of it a status."""
    choice = choose(observed.parts, observed.learned)
    objects = render(choice)
    return conclude(choice, objects, observed.present)
