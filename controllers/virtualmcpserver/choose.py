"""Parts -> Choice: the members that become backends, and the configuration that they make.

The members were judged one by one; the configuration that they make is judged as a whole by the rules of the gateway
that will read it. What it would refuse of one member costs that member, and what does not fit costs the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from api.conditions import MemberSkipReason
from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import ConfigError, ConfigErrors, Dialect, VmcpConfig, dialect_errors, validate_config
from api.contract.loader import backend_sizes
from api.contract.strategies import EnvSource
from api.contract.support import unsupported
from controllers.shared.deployed.isolation import destinations, urls_in
from controllers.shared.parts.learned import Learned
from controllers.shared.parts.part import CaVolume, judged
from controllers.shared.verdicts import Verdict, one_per_type
from controllers.shared.workload.isolation import Destination
from controllers.shared.workload.pod import Variable, rotation_hash
from controllers.virtualmcpserver.config import build_config
from controllers.virtualmcpserver.document import ConfigDocument, ConfigTooLargeError, write
from controllers.virtualmcpserver.environment import Names, all_sources, assign, pod_variables
from controllers.virtualmcpserver.members import awaits_verdict
from controllers.virtualmcpserver.names import hmac_secret_name
from controllers.virtualmcpserver.parts import Parts, Subject
from controllers.virtualmcpserver.status import sentences
from membership import GatewayTraits, Member, Skipped, ca_volume, has_ca
from membership import choose as choose_members
from runtime import Condition

_REASONS = (
    ("caBundlePath", MemberSkipReason.CA_BUNDLE_NOT_FOUND),
    ("headerForward", MemberSkipReason.RESTRICTED_HEADER),
    ("url", MemberSkipReason.INVALID_URL),
    ("transport", MemberSkipReason.UNSUPPORTED_TRANSPORT),
    ("outgoingAuth", MemberSkipReason.AUTH_CONFIG_FAILED),
)
"""Part of a place in the configuration -> why its member is left out."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A configuration that can be published, with everything that its pods need.

    Attributes:
        config: the configuration.
        written: the form in which it is published.
        backends: the number of members that it holds.
        variables: of the gateway's container.
        volumes: certificates to mount, those of the references first.
        rotation: hash of every value that Secrets give to the variables, the session Secret's own apart.
        secrets: those that the gateway reads by name.
        config_maps: those with CA bundles that it reads by name.
        destinations: where it connects to, for its NetworkPolicy; None where it has none.
    """

    config: VmcpConfig
    written: ConfigDocument
    backends: int
    variables: tuple[Variable, ...]
    volumes: tuple[CaVolume, ...]
    rotation: str
    secrets: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()
    destinations: tuple[Destination, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a gateway will serve, or why nothing can be published.

    Attributes:
        subject: the gateway.
        verdicts: of all checks, one per condition type, in the order in which they count.
        advice: conditions that stop nothing.
        hashes: of referenced configurations, by the status field that repeats them.
        skipped: the members that it has to do without.
        newcomers: name -> creation time of members that were not judged at all yet.
        publication: None while a check stops everything.
    """

    subject: Subject
    verdicts: tuple[Verdict, ...]
    advice: tuple[Condition, ...]
    hashes: Mapping[str, str | None]
    skipped: tuple[Skipped, ...]
    newcomers: Mapping[str, str] = field(default_factory=dict)
    publication: Publication | None = None


@dataclass(frozen=True)
class _Draft:
    """A configuration that may have to do without some of its members."""

    config: VmcpConfig
    backends: tuple[Member, ...]
    sources: list[EnvSource]
    names: Names
    problems: tuple[str, ...]
    """What the gateway would refuse of the whole; it must not be published with any."""
    written: ConfigDocument | None = None
    refusal: Verdict | None = None
    """Why it cannot be written, even without members."""


def choose(parts: Parts, learned: Learned) -> Choice:
    """Split the members, and make the configuration of those that are backends."""
    outgoing = parts.outgoing.section
    gateway = GatewayTraits(
        dialect=parts.subject.dialect,
        inline=parts.subject.inline,
        references=outgoing.references,
        resolution=outgoing.resolution,
        material=learned,
    )
    chosen = choose_members(parts.members, gateway)
    choice = Choice(
        subject=parts.subject,
        verdicts=one_per_type(judged(parts.in_order, learned)),
        advice=tuple(condition for part in (parts.sessions, parts.spec, parts.outgoing) for condition in part.advice),
        hashes=parts.hashes,
        skipped=chosen.skipped,
        newcomers={member.name: member.order[0] for member in parts.members if awaits_verdict(member)},
    )
    if not all(verdict.ok for verdict in choice.verdicts):
        return choice
    made, skipped = _draft(parts, chosen.backends, learned)
    verdicts = one_per_type([*choice.verdicts, *_judged_whole(parts.subject, made)])
    choice = replace(choice, verdicts=verdicts, skipped=(*choice.skipped, *skipped))
    if made.written is None or not all(verdict.ok for verdict in verdicts):
        return choice
    return replace(choice, publication=_publication(parts, made, made.written, learned))


def _draft(parts: Parts, backends: tuple[Member, ...], learned: Learned) -> tuple[_Draft, list[Skipped]]:
    """Make the configuration, leaving out members until the gateway would accept it and it fits."""
    skipped: list[Skipped] = []
    while True:
        made, errors = _make(parts, backends, learned)
        refused = dict(_refused(made.config, errors))
        if not refused and not made.problems:
            made, refused = _fitted(made, parts.subject.dialect)
        if not refused:
            return made, skipped
        skipped += refused.values()
        backends = tuple(member for member in backends if member.name not in refused)


def _make(parts: Parts, backends: tuple[Member, ...], learned: Learned) -> tuple[_Draft, list[ConfigError]]:
    dialect = parts.subject.dialect
    # One that finds its members itself gets nothing of them by its configuration and its pods.
    given = () if parts.subject.finds_members else backends
    sources = [] if parts.subject.finds_members else all_sources(parts, given, learned)
    names = assign(sources, dialect, learned.stamp)
    config = build_config(parts, given, names)
    found = [*validate_config(config), *unsupported(config, dialect)]
    expressible = dialect_errors(config, dialect)  # what concerns the whole has a condition of its own
    problems = [str(error) for error in found if not _costs_members(error)]
    optimizer = parts.config.section.optimizer
    if optimizer is not None and not optimizer.embedding_service:
        problems.append("optimizer: requires embeddingService or spec.embeddingServerRef")
    made = _Draft(config, backends, sources, names, tuple(problems))
    return made, [error for error in (*found, *expressible) if _costs_members(error)]


def _costs_members(error: ConfigError) -> bool:
    """Whether members are the cause. What spec.config itself says about a member is the gateway's own mistake."""
    return bool(error.backends) and error.path.startswith(("backends[", "outgoingAuth."))


def _refused(config: VmcpConfig, errors: list[ConfigError]) -> Iterator[tuple[str, Skipped]]:
    """Yield the members that the gateway would refuse, by name."""
    for error in errors:
        reason = next((reason for part, reason in _REASONS if part in error.path), MemberSkipReason.NOT_VALID)
        for position in error.backends or ():
            name = config.backends[position].name
            yield name, Skipped(name, reason, error.message)


def _fitted(made: _Draft, dialect: Dialect) -> tuple[_Draft, dict[str, Skipped]]:
    """Return the draft with its written form, or the largest members, without which it may fit.

    Of members of one size the youngest go, so that one more member changes nothing for those that are served.
    """
    try:
        return replace(made, written=write(made.config, dialect)), {}
    except ConfigErrors as errors:
        refusal = Verdict(T.CONFIG_PUBLISHED, False, R.CONFIG_INVALID, sentences(errors.errors))
        return replace(made, refusal=refusal), {}
    except ConfigTooLargeError as error:
        sizes = backend_sizes(made.config, dialect)
        excess = error.excess
        if excess > sum(sizes.values()):
            refusal = Verdict(T.CONFIG_PUBLISHED, False, R.CONFIG_TOO_LARGE, str(error))
            return replace(made, refusal=refusal), {}
        refused: dict[str, Skipped] = {}
        youngest = sorted(made.backends, key=lambda member: member.order, reverse=True)
        for member in sorted(youngest, key=lambda member: sizes.get(member.name, 0), reverse=True):
            if excess <= 0:
                break
            size = sizes.get(member.name, 0)
            refused[member.name] = Skipped(member.name, MemberSkipReason.TOO_LARGE, f"{size} bytes of configuration")
            excess -= size
        return made, refused


def _judged_whole(subject: Subject, made: _Draft) -> Iterator[Verdict]:
    """Yield what the configuration as a whole comes to."""
    if made.problems:
        yield Verdict(T.VALID, False, R.VALIDATION_FAILED, "; ".join(made.problems[:10]))
        return
    if subject.inline and not made.backends and subject.dialect is Dialect.TOOLHIVE:
        message = "static mode requires at least one backend with valid transport"
        yield Verdict(T.CONFIG_PUBLISHED, False, R.NO_USABLE_BACKENDS, message)
    elif made.refusal is not None:
        yield made.refusal
    elif made.written is not None:
        reason = R.CONFIG_COMPRESSED if made.written.packed else R.CONFIG_WRITTEN
        count = len(made.backends)
        message = f"the configuration has {count} backend{'' if count == 1 else 's'}"
        if not subject.inline:
            message = "the gateway discovers its backends in the group"
        yield Verdict(T.CONFIG_PUBLISHED, True, reason, message)


def _publication(parts: Parts, made: _Draft, written: ConfigDocument, learned: Learned) -> Publication:
    own = hmac_secret_name(parts.subject.name)
    given = () if parts.subject.finds_members else made.backends
    variables = pod_variables(parts, given, made.sources, made.names)
    bundles = [CaVolume(ca_volume(m, parts.subject.dialect), m.ca_config_map, m.ca_key) for m in given if has_ca(m)]
    secrets, config_maps = parts.read_by_name if parts.subject.finds_members else ((), ())
    return Publication(
        config=made.config,
        written=written,
        backends=len(made.backends),
        variables=variables,
        volumes=(*parts.oidc.volumes, *parts.telemetry.volumes, *bundles),
        rotation=rotation_hash((variable for variable in variables if variable.secret != own), learned.stamp),
        secrets=secrets,
        config_maps=config_maps,
        destinations=_destinations(parts, made.config, made.backends) if parts.subject.isolated else None,
    )


def _destinations(parts: Parts, config: VmcpConfig, backends: Iterable[Member]) -> tuple[Destination, ...]:
    """Return where a gateway connects to: backends, issuers, token endpoints, collectors, stores.

    Args:
        parts: what its references come to.
        config: its configuration; without backends where it finds them itself.
        backends: the members that it serves.
    """
    subject = parts.subject
    urls = [*urls_in(config.model_dump(exclude={"metadata"}))]
    if config.session_storage is not None:
        urls.append(config.session_storage.address)
    if config.telemetry is not None:
        urls.append(config.telemetry.endpoint)
    urls += (url for member in backends for url in (member.url, member.remote_url))
    for spec in parts.outgoing.section.resolution.specs.values():
        urls += urls_in(spec.model_dump())
    return destinations(urls, subject.namespace, subject.cluster_domain)
