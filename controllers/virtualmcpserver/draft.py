"""The configuration that can be published, and the members that it has to do without.

The members were judged one by one; the configuration that they make is judged as a whole by the rules of the gateway
that will read it. What it would refuse of one member costs that member, and what does not fit costs the largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from api.conditions import MemberSkipReason
from api.contract import ConfigError, ConfigErrors, Dialect, VmcpConfig, dialect_errors, validate_config
from api.contract.loader import backend_sizes
from api.contract.support import unsupported
from controllers.virtualmcpserver.config import build_config
from controllers.virtualmcpserver.environment import Json, all_sources, assign, pod_env
from controllers.virtualmcpserver.objects import ConfigTooLargeError, render_config
from controllers.virtualmcpserver.references import Referenced
from controllers.virtualmcpserver.snapshot import Snapshot
from membership import Member, Resolution, Skipped

_REASONS = (
    ("caBundlePath", MemberSkipReason.CA_BUNDLE_NOT_FOUND),
    ("headerForward", MemberSkipReason.RESTRICTED_HEADER),
    ("url", MemberSkipReason.INVALID_URL),
    ("transport", MemberSkipReason.UNSUPPORTED_TRANSPORT),
    ("outgoingAuth", MemberSkipReason.AUTH_CONFIG_FAILED),
)
"""Part of a place in the configuration -> why its member is left out."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A configuration as the ConfigMap holds it.

    Attributes:
        data: `data` or `binaryData`.
        checksum: of the content.
        packed: it is compressed.
    """

    data: dict[str, Any]
    checksum: str
    packed: bool


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A configuration, and everything that was decided with it.

    Attributes:
        config: the configuration.
        env: the variables of its pods.
        backends: the members that it holds, sorted by name.
        skipped: members that it has to do without.
        problems: what the gateway would refuse of the whole; it must not be published with any.
        written: the form in which it is published; None when it cannot be, for one of the two reasons below.
        too_large: it does not fit into a ConfigMap, even without members.
        inexpressible: what the dialect cannot say.
    """

    config: VmcpConfig
    env: list[Json]
    backends: tuple[Member, ...]
    skipped: tuple[Skipped, ...] = ()
    problems: tuple[str, ...] = ()
    written: Written | None = None
    too_large: str = ""
    inexpressible: tuple[ConfigError, ...] = ()


def draft(
    snapshot: Snapshot, base: VmcpConfig, referenced: Referenced, resolution: Resolution, backends: tuple[Member, ...]
) -> Draft:
    """Make the configuration, leaving out members until the gateway would accept it and it fits."""
    skipped: list[Skipped] = []
    while True:
        made, errors = _make(snapshot, base, referenced, resolution, backends)
        refused = dict(_refused(made.config, errors))
        if not refused and not made.problems:
            made, refused = _fitted(made, snapshot.dialect)
        if not refused:
            return replace(made, skipped=tuple(skipped))
        skipped += refused.values()
        backends = tuple(member for member in backends if member.name not in refused)


def _make(
    snapshot: Snapshot, base: VmcpConfig, referenced: Referenced, resolution: Resolution, backends: tuple[Member, ...]
) -> tuple[Draft, list[ConfigError]]:
    sources = all_sources(snapshot, backends, resolution)
    names = assign(sources)
    config = build_config(snapshot, base, referenced, resolution, backends, names)
    found = [*validate_config(config), *unsupported(config, snapshot.dialect)]
    expressible = dialect_errors(config, snapshot.dialect)  # what concerns the whole has a condition of its own
    problems = [str(error) for error in found if not _costs_members(error) and not _is_said_elsewhere(error)]
    if base.optimizer is not None and not base.optimizer.embedding_service:
        problems.append("optimizer: needs embeddingService or spec.embeddingServerRef")
    env = pod_env(snapshot, config, backends, sources, names)
    made = Draft(config=config, env=env, backends=backends, problems=tuple(problems))
    return made, [error for error in (*found, *expressible) if _costs_members(error)]


def _costs_members(error: ConfigError) -> bool:
    """Whether members are the cause. What spec.config itself says about a member is the gateway's own mistake."""
    return bool(error.backends) and error.path.startswith(("backends[", "outgoingAuth."))


def _is_said_elsewhere(error: ConfigError) -> bool:
    # That this gateway cannot find its members by itself has a condition of its own.
    return error.path == "outgoingAuth.source"


def _refused(config: VmcpConfig, errors: list[ConfigError]) -> Iterator[tuple[str, Skipped]]:
    """Yield the members that the gateway would refuse, by name."""
    for error in errors:
        reason = next((reason for part, reason in _REASONS if part in error.path), MemberSkipReason.NOT_VALID)
        for position in error.backends or ():
            name = config.backends[position].name
            yield name, Skipped(name, reason, error.message)


def _fitted(made: Draft, dialect: Dialect) -> tuple[Draft, dict[str, Skipped]]:
    """Return the draft with its written form, or the largest members, without which it may fit.

    Of members of one size the youngest go, so that one more member changes nothing for those that are served.
    """
    try:
        data, checksum, packed = render_config(made.config, dialect)
    except ConfigErrors as errors:
        return replace(made, inexpressible=errors.errors), {}
    except ConfigTooLargeError as error:
        sizes = backend_sizes(made.config, dialect)
        excess = error.excess
        if excess > sum(sizes.values()):
            return replace(made, too_large=str(error)), {}
        refused: dict[str, Skipped] = {}
        youngest = sorted(made.backends, key=lambda member: member.order, reverse=True)
        for member in sorted(youngest, key=lambda member: sizes.get(member.name, 0), reverse=True):
            if excess <= 0:
                break
            size = sizes.get(member.name, 0)
            refused[member.name] = Skipped(member.name, MemberSkipReason.TOO_LARGE, f"{size} bytes of configuration")
            excess -= size
        return made, refused
    return replace(made, written=Written(data=data, checksum=checksum, packed=packed)), {}
