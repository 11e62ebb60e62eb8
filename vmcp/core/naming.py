"""Who gets which name when several backends offer the same: pure decisions, the same on every replica and every run.

Input and output are claims: (backend, wanted name). Backends are always looked at in sorted order, so that nothing
depends on which of them answered first.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from vmcp.core.rules import AggregationRules, ConflictPolicy


@dataclass(frozen=True, slots=True)
class NameClaim:
    """A backend wants to offer something under a name.

    Attributes:
        backend: The backend's name.
        original: The item's name at the backend.
        wanted: The name after overrides.
        overridden: The name was set by an override.
    """

    backend: str
    original: str
    wanted: str
    overridden: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """The outcome: which claim has which advertised name, and what was lost on the way, in sentences."""

    names: dict[str, NameClaim]
    problems: tuple[str, ...]


class Namespaces:
    """Whose prefix does a name begin with?

    A name that begins with a backend's prefix is that backend's, whoever offers it and whether or not the backend
    offers it just now: otherwise a member could take the calls that are meant for another one. Of two prefixes of which
    one begins with the other the longer one decides (`a-` and `a-b-`).
    """

    def __init__(self, backends: Iterable[str], rules: AggregationRules) -> None:
        """Take all backends of the gateway, also those that were never heard."""
        self._owners: dict[str, str] = {}
        bearers: dict[str, list[str]] = defaultdict(list)
        for backend in backends:
            bearers[rules.prefixed(backend, "")].append(backend)
        for prefix, names in bearers.items():
            if prefix and len(names) == 1:  # a prefix that several share tells nobody apart
                self._owners[prefix] = names[0]
        self._lengths = sorted({len(prefix) for prefix in self._owners}, reverse=True)

    def owner(self, name: str) -> str | None:
        """Return the backend whose prefix `name` begins with."""
        for length in self._lengths:
            owner = self._owners.get(name[:length])
            if owner is not None:
                return owner
        return None

    def foreign(self, name: str, claim: NameClaim) -> bool:
        """Say whether a name is another backend's. What an administrator wrote into an override is nobody else's."""
        return not claim.overridden and self.owner(name) not in (None, claim.backend)


COMMON_LIMIT: Final = 64
"""Characters of a name that widespread clients take, whatever the specification allows."""
MIN_LIMIT: Final = 32
"""The least limit that leaves something of a name to read."""
_DIGEST: Final = 8


def shortened(naming: Naming, limit: int) -> Naming:
    """Return the names with at most `limit` characters each; 0 = as they are.

    A name that is too long keeps its beginning and gets a digest of the whole: it depends on nothing else, so it is the
    same on every replica and after every change of the lists.
    """
    if not limit:
        return naming
    names: dict[str, NameClaim] = {}
    problems = list(naming.problems)
    for name, claim in sorted(naming.names.items(), key=lambda pair: (len(pair[0]) > limit, pair[0])):
        short = name if len(name) <= limit else _short(name, limit)
        if short in names:
            problems.append(f"{name!r} of {claim.backend} is left out: shortened, it is {names[short].backend}'s")
        else:
            names[short] = claim
    return Naming(names, tuple(problems))


def _short(name: str, limit: int) -> str:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    return f"{name[: limit - _DIGEST - 1]}_{digest}"


def name_tools(claims: Iterable[NameClaim], rules: AggregationRules, backends: Iterable[str] = ()) -> Naming:
    """Give every tool its advertised name.

    Args:
        claims: Of all backends.
        rules: How.
        backends: All backends of the gateway; those of the claims are added.
    """
    claims = list(claims)
    spaces = Namespaces({*backends, *(claim.backend for claim in claims)}, rules)
    by_wanted = _grouped(claims)
    match rules.strategy:
        case ConflictPolicy.PREFIX:
            return _first_wins(((rules.prefixed(c.backend, c.wanted), c) for group in by_wanted for c in group), spaces)
        case ConflictPolicy.PRIORITY:
            return _by_priority(by_wanted, rules, spaces)
        case ConflictPolicy.MANUAL:
            return _manual(by_wanted)
        case ConflictPolicy.PREFIX_ON_CONFLICT:
            return _prefix_conflicts(by_wanted, rules, spaces)


def name_prompts(claims: Iterable[NameClaim], rules: AggregationRules, backends: Iterable[str] = ()) -> Naming:
    """Give every prompt its advertised name.

    As in ToolHive prompts are prefixed under every strategy, except those of backends in the priority order; a name
    that then still has several bearers goes to the first in that order, or to nobody when one bearer is not in it.
    `prefixOnConflict` treats prompts as it treats tools.
    """
    claims = list(claims)
    spaces = Namespaces({*backends, *(claim.backend for claim in claims)}, rules)
    by_wanted = _grouped(claims)
    if rules.strategy is ConflictPolicy.PREFIX_ON_CONFLICT:
        return _prefix_conflicts(by_wanted, rules, spaces)
    ranked = rules.priority if rules.strategy is ConflictPolicy.PRIORITY else ()
    bearers: dict[str, list[NameClaim]] = defaultdict(list)
    problems: list[str] = []
    for group in by_wanted:
        for claim in group:
            bare = claim.backend in ranked
            name = claim.wanted if bare else rules.prefixed(claim.backend, claim.wanted)
            if not bare and spaces.foreign(name, claim):
                problems.append(_not_its_own(name, claim, spaces))
            else:
                bearers[name].append(claim)
    names: dict[str, NameClaim] = {}
    for name, group in bearers.items():
        if len(group) > 1 and any(claim.backend not in ranked for claim in group):
            problems.append(f"prompt {name!r} is offered by {_backends(group)}: none is advertised")
            continue
        names[name] = min(group, key=lambda claim: rules.rank(claim.backend) or 0)
        if len(group) > 1:
            problems.append(f"prompt {name!r}: {names[name].backend} wins over {_backends(group, names[name])}")
    return Naming(names, tuple(problems))


def _grouped(claims: Iterable[NameClaim]) -> list[list[NameClaim]]:
    """Group by wanted name; groups by name, members by backend; one claim per backend and name."""
    groups: dict[str, dict[str, NameClaim]] = defaultdict(dict)
    for claim in sorted(claims, key=lambda c: (c.wanted, c.backend, not c.overridden, c.original)):
        groups[claim.wanted].setdefault(claim.backend, claim)
    return [list(group.values()) for _, group in sorted(groups.items())]


def _first_wins(pairs: Iterable[tuple[str, NameClaim]], spaces: Namespaces) -> Naming:
    """Hand out prefixed names; of equal ones the owner of the prefix gets it, then the backend that sorts first."""
    names: dict[str, NameClaim] = {}
    problems: list[str] = []

    def order(pair: tuple[str, NameClaim]) -> tuple[str, bool, str, str]:
        name, claim = pair
        return name, spaces.owner(name) != claim.backend, claim.backend, claim.original

    for name, claim in sorted(pairs, key=order):
        if spaces.foreign(name, claim):
            problems.append(_not_its_own(name, claim, spaces))
        elif name in names:
            problems.append(f"{name!r}: {names[name].backend} wins over {claim.backend}")
        else:
            names[name] = claim
    return Naming(names, tuple(problems))


def _not_its_own(name: str, claim: NameClaim, spaces: Namespaces) -> str:
    return f"{name!r} of {claim.backend} is left out: names with that prefix are {spaces.owner(name)}'s"


def _by_priority(groups: list[list[NameClaim]], rules: AggregationRules, spaces: Namespaces) -> Naming:
    names: dict[str, NameClaim] = {}
    problems: list[str] = []
    unlisted: list[NameClaim] = []
    for group in groups:
        ranked = [claim for claim in group if rules.rank(claim.backend) is not None]
        if len(group) == 1 and (ranked or not spaces.foreign(group[0].wanted, group[0])):
            names[group[0].wanted] = group[0]
        elif ranked:
            winner = min(ranked, key=lambda claim: rules.rank(claim.backend) or 0)
            names[winner.wanted] = winner
            problems.append(f"{winner.wanted!r}: {winner.backend} wins over {_backends(group, winner)}")
        else:
            unlisted.extend(group)
    return _add_prefixed(names, unlisted, rules, problems, spaces)


def _prefix_conflicts(groups: list[list[NameClaim]], rules: AggregationRules, spaces: Namespaces) -> Naming:
    """Keep unique names; prefix the others, and those that look like another backend's prefixed ones."""
    names: dict[str, NameClaim] = {}
    conflicting: list[NameClaim] = []
    for group in groups:
        if len(group) == 1 and not spaces.foreign(group[0].wanted, group[0]):
            names[group[0].wanted] = group[0]
        else:
            conflicting.extend(group)
    return _add_prefixed(names, conflicting, rules, [], spaces)


def _add_prefixed(
    names: dict[str, NameClaim],
    claims: list[NameClaim],
    rules: AggregationRules,
    problems: list[str],
    spaces: Namespaces,
) -> Naming:
    """Prefix the claims; a name that is already given stays with its owner."""
    added = _first_wins(((rules.prefixed(claim.backend, claim.wanted), claim) for claim in claims), spaces)
    for name, claim in added.names.items():
        if name in names:
            problems.append(f"{name!r}: {names[name].backend} wins over {claim.backend}")
        else:
            names[name] = claim
    return Naming(names, (*problems, *added.problems))


def _manual(groups: list[list[NameClaim]]) -> Naming:
    """Keep what is unique; a name with several bearers is offered by none, for nobody said whose it is.

    ToolHive fails the whole view instead; one bad pair must not take everything away.
    """
    names = {group[0].wanted: group[0] for group in groups if len(group) == 1}
    problems = [
        f"{group[0].wanted!r} is offered by {_backends(group)}: none is advertised until an override tells them apart"
        for group in groups
        if len(group) > 1
    ]
    return Naming(names, tuple(problems))


def _backends(group: list[NameClaim], without: NameClaim | None = None) -> str:
    return ", ".join(claim.backend for claim in group if claim is not without)
