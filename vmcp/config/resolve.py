"""From the file's model to `Settings`: secrets are looked up, defaults become numbers, names become tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from api.contract.auth import IncomingAuth
from api.contract.config import Aggregation, StaticBackend, VmcpConfig, WorkloadTools
from api.contract.defaults import DEFAULT_PREFIX_FORMAT
from api.contract.duration import Duration
from api.contract.errors import ConfigError, join
from api.contract.identifiers import HEADER_FORWARD_ENV, REDIS_PASSWORD_ENV, SESSION_HMAC_ENV
from api.contract.operations import Audit, Bucket, Operational, RateLimiting
from api.contract.secrets import SecretSource, secret_text, session_secret
from api.contract.validation.backends import REMOTE_TYPES
from vmcp.audit.interface import EventType
from vmcp.audit.line import LineSettings
from vmcp.audit.log import AuditSettings
from vmcp.auth.forward import ForwardSpec, manifest_variable, read_manifest, resolve_static
from vmcp.auth.incoming import IncomingSettings, OidcSource
from vmcp.auth.oidc import OidcSettings
from vmcp.auth.outgoing.registry import read_strategy
from vmcp.auth.outgoing.strategy import OutgoingSettings
from vmcp.authz.cedar import CedarSettings
from vmcp.backend.settings import BackendSettings, BreakerSettings
from vmcp.config.options import MAX_NAME_ENV, RATE_LIMIT_FAILURE_ENV
from vmcp.config.settings import Settings
from vmcp.config.store import read_store
from vmcp.core.naming import MIN_LIMIT
from vmcp.core.rules import AggregationRules, ConflictPolicy, Override, WorkloadRules
from vmcp.limits.bucket import Rate, RateLimits, ToolRates
from vmcp.sessions.settings import RedisSettings

_HINTS = ("title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a configuration is resolved in.

    Attributes:
        environ: Of the process: settings that a pod template can add, and header forwarding in its form of variables.
        secrets: Where values of Secrets are looked up.
        root: Put before absolute paths of CA bundles.
        bundles: Path of a CA bundle in the configuration -> where it is, when it is somewhere else.
        debug: Log at debug level whatever the configuration says.
    """

    environ: Mapping[str, str] = field(repr=False)
    secrets: SecretSource = field(repr=False)
    root: str = ""
    bundles: Mapping[str, str] = field(default_factory=dict)
    debug: bool = False

    def file(self, path: str) -> str:
        """Return where a file that the configuration names is found."""
        return self.bundles.get(path, self.root + path)


@dataclass(slots=True)
class _Notes:
    """What turns up on the way."""

    around: Surroundings
    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list, repr=False)

    def error(
        self, where: str, message: str, backends: tuple[int, ...] | None = None, *, missing: bool = False
    ) -> None:
        self.errors.append(ConfigError(where, message, backends, missing))

    def file(self, path: str) -> str | None:
        """Return where a file of the configuration is found; None = none is named."""
        return self.around.file(path) if path else None

    def secret(self, value: str) -> str:
        """Remember a secret for the redactor and return it."""
        if value:
            self.secrets.append(value)
        return value

    def secret_of(self, variable: str, literal: str = "") -> str:
        """See `ReadSecret`. The contract's checks have told of a variable that is missing."""
        value = self.secret(secret_text(self.around.secrets.get(variable, ""))) if variable else ""
        return value or self.secret(secret_text(literal))


def resolve(config: VmcpConfig, surroundings: Surroundings) -> tuple[Settings, tuple[ConfigError, ...]]:
    """Return the settings and what is wrong with them; settings with errors must not be used.

    Args:
        config: A valid configuration with its defaults filled in.
        surroundings: What it is resolved in.
    """
    notes = _Notes(surroundings)
    operational = config.operational
    assert operational is not None, "with_defaults fills it"
    settings = Settings(
        name=config.name,
        group=config.group_ref,
        backends=_backends(config, operational, notes),
        outgoing=_outgoing(config, notes),
        incoming=_incoming(config.incoming_auth, notes),
        authz=_authz(config),
        aggregation=_aggregation(config.aggregation or Aggregation(), _max_name(notes)),
        limits=_limits(config.rate_limiting, notes),
        audit=_audit(config, notes),
        timeout=_timeouts(operational)[0],
        timeouts=_timeouts(operational)[1],
        fail_partial=_fails_partially(operational),
        passthrough=tuple(config.passthrough_headers),
        metrics=config.telemetry is not None and config.telemetry.enable_prometheus_metrics_path,
        debug=surroundings.debug or operational.log_level == "debug",
        sealing=_sealing(notes),
        store=_store(config, notes),
        secrets=tuple(dict.fromkeys(notes.secrets)),
        warnings=tuple(notes.warnings),
    )
    return settings, tuple(notes.errors)


def _sealing(notes: _Notes) -> bytes | None:
    """Return what replicas seal with; None where nothing is given, and each process makes a secret of its own."""
    text = notes.secret_of(SESSION_HMAC_ENV)
    if not text:
        return None
    secret, problem = session_secret(text)
    if problem:
        notes.error(SESSION_HMAC_ENV, f"the secret {problem}")
    return secret or None


def _store(config: VmcpConfig, notes: _Notes) -> RedisSettings | None:
    """Return where replicas share sessions; None where each keeps its own."""
    storage = config.session_storage
    if storage is None or storage.provider != "redis":
        return None
    return read_store(
        config,
        notes.around.environ,
        password=notes.secret_of(REDIS_PASSWORD_ENV),
        sealed=bool(notes.around.secrets.get(SESSION_HMAC_ENV, "")),
        report=notes.error,
    )


def _seconds(value: Duration | None) -> float:
    assert value is not None, "with_defaults fills it"
    return value.seconds


# --- backends ---------------------------------------------------------------------------------------------------------


def _backends(config: VmcpConfig, operational: Operational, notes: _Notes) -> tuple[BackendSettings, ...]:
    manifests = _manifests(config.backends, notes)
    return tuple(
        _backend(index, backend, operational, manifests.get(manifest_variable(backend.name)), notes)
        for index, backend in enumerate(config.backends)
    )


def _manifests(backends: Iterable[StaticBackend], notes: _Notes) -> dict[str, ForwardSpec]:
    """Read the environment form of header forwarding, by variable: one per backend."""
    found: dict[str, ForwardSpec] = {}
    owners: dict[str, list[int]] = {}
    names = [backend.name for backend in backends]
    for position, name in enumerate(names):
        owners.setdefault(manifest_variable(name), []).append(position)
    for variable, text in sorted(notes.around.environ.items()):
        if not variable.startswith(HEADER_FORWARD_ENV):
            continue
        users = owners.get(variable, [])
        if not users:
            # The operator removes a member's variable with the next rollout; until then nobody is harmed.
            notes.warnings.append(f"{variable} belongs to no backend")
            continue
        if len(users) > 1:
            several = ", ".join(names[position] for position in users)
            notes.error("backends", f"{variable} belongs to more than one backend: {several}", tuple(users))
            continue
        try:
            found[variable] = read_manifest(text)
        except ValueError as error:
            notes.error(variable, str(error), tuple(users))
    return found


def _backend(
    index: int, backend: StaticBackend, operational: Operational, manifest: ForwardSpec | None, notes: _Notes
) -> BackendSettings:
    timeout, timeouts = _timeouts(operational)
    failure = operational.failure_handling
    assert failure is not None, "with_defaults fills it"
    return BackendSettings(
        name=backend.name,
        url=backend.url,
        transport=backend.transport,
        type=backend.type,
        ca_bundle=notes.file(backend.ca_bundle_path),
        headers=_headers(index, backend, manifest, notes),
        timeout=timeouts.get(backend.name, timeout),
        health_interval=_seconds(failure.health_check_interval),
        health_timeout=_seconds(failure.health_check_timeout),
        unhealthy_threshold=failure.unhealthy_threshold,
        breaker=_breaker(backend, operational),
    )


def _headers(
    index: int, backend: StaticBackend, manifest: ForwardSpec | None, notes: _Notes
) -> tuple[tuple[str, str], ...]:
    where = join("backends", index, "headerForward")
    native = backend.header_forward
    if native is not None and manifest is not None:
        notes.error(
            where, f"{manifest_variable(backend.name)} configures the same backend: use one of the two", (index,)
        )
        return ()
    if native is not None:
        spec = ForwardSpec(native.add_plaintext_headers, native.add_headers_from_secret)
    else:
        spec = manifest or ForwardSpec()
    headers, problems = resolve_static(spec, notes.around.secrets)
    place = where if native is not None else manifest_variable(backend.name)
    for problem in problems:
        if native is None or problem.variable:  # the contract's checks have told of the others
            notes.error(place, problem.message, (index,), missing=problem.missing)
    secret_names = {name.lower() for name in spec.secret}
    for name, value in headers:
        if name.lower() in secret_names or name.lower() == "authorization":
            notes.secret(value)
    return headers


def _breaker(backend: StaticBackend, operational: Operational) -> BreakerSettings | None:
    """Return the circuit breaker: on where the file says so, and by default towards remote servers."""
    failure = operational.failure_handling
    given = failure.circuit_breaker if failure is not None else None
    if given is not None and given.enabled:
        return BreakerSettings(threshold=given.failure_threshold, timeout=_seconds(given.timeout))
    return BreakerSettings() if backend.type in REMOTE_TYPES else None


def _fails_partially(operational: Operational) -> bool:
    failure = operational.failure_handling
    return failure is not None and failure.partial_failure_mode == "fail"


def _timeouts(operational: Operational) -> tuple[float, dict[str, float]]:
    timeouts = operational.timeouts
    assert timeouts is not None, "with_defaults fills it"
    return _seconds(timeouts.default), {name: span.seconds for name, span in timeouts.per_workload.items()}


# --- auth -------------------------------------------------------------------------------------------------------------


def _outgoing(config: VmcpConfig, notes: _Notes) -> dict[str, OutgoingSettings]:
    given = config.outgoing_auth
    default = given.default if given is not None else None
    named = given.backends if given is not None else {}
    known = {backend.name for backend in config.backends}
    for name in named:
        if name not in known:
            notes.warnings.append(f"outgoingAuth.backends.{name}: there is no backend with this name")
    shared = read_strategy(default, notes.secret_of)
    found: dict[str, OutgoingSettings] = {}
    for backend in config.backends:
        own = named.get(backend.name)
        found[backend.name] = shared if own is None else read_strategy(own, notes.secret_of)
    return found


def _incoming(auth: IncomingAuth | None, notes: _Notes) -> IncomingSettings:
    if auth is None or auth.type != "oidc" or auth.oidc is None:
        return IncomingSettings(mode=auth.type if auth is not None and auth.type else "anonymous")
    oidc, authz = auth.oidc, auth.authz
    if oidc.client_secret_env:
        notes.secret_of(oidc.client_secret_env)  # for the redactor
    tokens = OidcSettings(
        issuer=oidc.issuer,
        audience=oidc.audience,
        resource=oidc.resource,
        scopes=tuple(oidc.scopes),
        group_claim=(authz.group_claim_name if authz is not None else "") or "groups",
        role_claim=(authz.role_claim_name if authz is not None else "") or "roles",
    )
    return IncomingSettings(
        mode="oidc",
        oidc=OidcSource(
            tokens=tokens,
            jwks_url=oidc.jwks_url,
            allow_private=oidc.jwks_allow_private_ip or oidc.protected_resource_allow_private_ip,
            allow_http=oidc.insecure_allow_http,
            ca_bundle=notes.file(oidc.ca_bundle_path),
        ),
    )


def _authz(config: VmcpConfig) -> CedarSettings | None:
    authz = config.incoming_auth.authz if config.incoming_auth is not None else None
    if authz is None or authz.type != "cedar":
        return None
    return CedarSettings(
        server=config.name,
        policies=tuple(authz.policies),
        entities_json=authz.entities_json or "[]",
        group_entity_type=authz.group_entity_type or "THVGroup",
    )


# --- lists, limits, audit ---------------------------------------------------------------------------------------------


def _max_name(notes: _Notes) -> int:
    """Return the most characters of a name; 0 = no limit."""
    text = notes.around.environ.get(MAX_NAME_ENV, "").strip()
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 4 or int(text) < MIN_LIMIT:
        notes.error(MAX_NAME_ENV, f"{text[:32]!r} is not a number of characters, {MIN_LIMIT} to 9999")
        return 0
    return int(text)


def _aggregation(given: Aggregation, max_name: int) -> AggregationRules:
    detail = given.conflict_resolution_config
    # An unknown word was reported already; everything else in the file deserves to be looked at as well.
    known = given.conflict_resolution in {policy.value for policy in ConflictPolicy}
    return AggregationRules(
        strategy=ConflictPolicy(given.conflict_resolution) if known else ConflictPolicy.PREFIX,
        prefix_format=(detail.prefix_format if detail is not None else "") or DEFAULT_PREFIX_FORMAT,
        priority=tuple(detail.priority_order) if detail is not None else (),
        exclude_all_tools=given.exclude_all_tools,
        deny_by_default=given.default_tool_visibility == "deny",
        workloads={tools.workload: _workload(tools) for tools in given.tools},
        max_name=max_name,
    )


def _workload(tools: WorkloadTools) -> WorkloadRules:
    overrides = {}
    for name, override in tools.overrides.items():
        given = override.annotations
        said = given.model_dump(by_alias=True, exclude_none=True) if given is not None else {}
        annotations = {key: said[key] for key in _HINTS if key in said}
        overrides[name] = Override(override.name or None, override.description or None, annotations)
    return WorkloadRules(frozenset(tools.filter), tools.exclude_all, overrides)


def _rate(bucket: Bucket | None) -> Rate | None:
    if bucket is None or bucket.refill_period is None:
        return None
    return Rate(bucket.max_tokens, bucket.refill_period.seconds)


def _limits(given: RateLimiting | None, notes: _Notes) -> RateLimits | None:
    if given is None:
        return None
    mode = notes.around.environ.get(RATE_LIMIT_FAILURE_ENV, "").strip() or "open"
    if mode not in ("open", "closed"):
        notes.error(RATE_LIMIT_FAILURE_ENV, f'"{mode[:32]}" is neither "open" nor "closed"')
    tools = {tool.name: ToolRates(_rate(tool.shared), _rate(tool.per_user)) for tool in given.tools}
    return RateLimits(_rate(given.shared), _rate(given.per_user), tools, fail_closed=mode == "closed")


def _audit(config: VmcpConfig, notes: _Notes) -> AuditSettings | None:
    """Return the audit settings. The section's presence switches it on, unless it says `enabled: false` itself."""
    given = config.audit
    if given is None or _switched_off(given):
        return None
    known = {kind.value for kind in EventType}
    for name in (*given.event_types, *given.exclude_event_types):
        if name not in known:
            notes.warnings.append(f"audit: {name!r} is not an event type of this version")
    return AuditSettings(
        LineSettings(
            component=given.component or "vmcp-server",
            include_request_data=given.include_request_data,
            include_response_data=given.include_response_data,
            max_data_size=given.max_data_size or 1024,
            max_delegation_depth=given.max_delegation_depth or 10,
        ),
        frozenset(given.event_types),
        frozenset(given.exclude_event_types),
        given.log_file,
    )


def _switched_off(given: Audit) -> bool:
    return "enabled" in given.model_fields_set and not given.enabled
