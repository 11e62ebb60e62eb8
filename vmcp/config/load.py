"""From a file to `Settings`: every mistake at once, in one list, whoever found it."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from api.contract.config import Dialect, VmcpConfig
from api.contract.defaults import with_defaults
from api.contract.dialect import dialect_errors
from api.contract.errors import ConfigError, ConfigErrors, join
from api.contract.loader import MAX_CONFIG_BYTES, parse_config
from api.contract.proxy import ProxyConfig, as_gateway, parse_proxy, told_of_proxy, validate_proxy
from api.contract.support import unsupported
from api.contract.validation import validate_config
from vmcp.authz.cedar import CedarAuthorizer, PolicyError
from vmcp.backend.settings import BackendSettings
from vmcp.config.resolve import Surroundings, resolve
from vmcp.config.secrets import EnvironmentSecrets
from vmcp.config.settings import LeftOut, ProxySettings, Settings
from vmcp.http.client import BundlePathError, ConnectError, Trust


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that may be used.

    Attributes:
        settings: What it says.
        digest: Tells people which version runs.
        source: The configuration's model.
        awaited: CA bundles of backends that are left out: when one of them changes, the file is worth another look.
    """

    settings: Settings
    digest: str
    source: VmcpConfig = field(repr=False)
    awaited: tuple[Path, ...] = ()


def load(data: bytes, environ: Mapping[str, str], *, debug: bool = False, root: str = "") -> Loaded:
    """Read, check and resolve a configuration whose secrets are in the environment.

    Args:
        data: YAML or JSON, plain or gzip-packed, of either dialect.
        environ: Of the process.
        debug: Log at debug level whatever the file says.
        root: Put before absolute paths of CA bundles, to run a pod's configuration outside of a pod.

    Returns:
        See `settle`.

    Raises:
        ConfigErrors: See `settle`; also when the bytes are no configuration.
    """
    surroundings = Surroundings(environ, EnvironmentSecrets(environ), root=root, debug=debug)
    return settle(parse_config(data), digest_of(data), surroundings)


def digest_of(data: bytes) -> str:
    """Return what tells people which version of a configuration runs: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:12]


def settle(given: VmcpConfig, digest: str, surroundings: Surroundings) -> Loaded:
    """Check and resolve a configuration.

    Args:
        given: As it was parsed, or composed.
        digest: Tells people which version runs.
        surroundings: What it is resolved in.

    Returns:
        The configuration, without the backends that cannot be used: one broken backend costs that backend. They are in
        `settings.left_out`.

    Raises:
        ConfigErrors: Something is wrong that concerns more than single backends; then everything that is wrong. Rules
            of meaning are checked only on a document of the right shape.
    """
    config = with_defaults(given)
    settings, found = _resolved(config, surroundings)
    errors = _unique(
        [
            *dialect_errors(config, Dialect.NATIVE),
            *validate_config(config, env=surroundings.secrets),
            *unsupported(config),
            *found,
        ]
    )
    if any(error.backends is None for error in errors):
        raise ConfigErrors(errors)
    settings = _without_broken(config, settings, errors)
    left_out = {one.name for one in settings.left_out}
    awaited = tuple(
        Path(surroundings.file(backend.ca_bundle_path))
        for backend in config.backends
        if backend.name in left_out and backend.ca_bundle_path
    )
    return Loaded(settings, digest, config, awaited)


def settle_proxy(given: ProxyConfig, digest: str, surroundings: Surroundings) -> Loaded:
    """Check and resolve a proxy's configuration.

    Args:
        given: As it was parsed.
        digest: Tells people which version runs.
        surroundings: What it is resolved in.

    Raises:
        ConfigErrors: Everything that is wrong, in the words of the proxy's own document.
    """
    config = with_defaults(as_gateway(given))
    settings, found = _resolved(config, surroundings)
    errors = _unique([*validate_proxy(given, env=surroundings.secrets), *told_of_proxy(given, found)])
    if errors:
        raise ConfigErrors(errors)
    proxy = ProxySettings(trust_forwarded=given.trust_proxy_headers)
    backends = settings.backends if _wants_breaker(given) else _without_breaker(settings.backends)
    return Loaded(replace(settings, group=given.group_ref, backends=backends, proxy=proxy), digest, config)


def _wants_breaker(given: ProxyConfig) -> bool:
    """Say whether a proxy has a circuit breaker: only where that was asked for.

    A gateway spares its other members by not waiting for one that is down. A proxy has no others, and a breaker would
    go on refusing for a minute after its remote came back.
    """
    failure = None if given.operational is None else given.operational.failure_handling
    return failure is not None and failure.circuit_breaker is not None and failure.circuit_breaker.enabled


def _without_breaker(backends: tuple[BackendSettings, ...]) -> tuple[BackendSettings, ...]:
    return tuple(replace(backend, breaker=None) for backend in backends)


def load_proxy(data: bytes, environ: Mapping[str, str], *, debug: bool = False, root: str = "") -> Loaded:
    """Read, check and resolve a proxy's configuration; the arguments are those of `load`.

    Raises:
        ConfigErrors: See `settle_proxy`; also when the bytes are no configuration.
    """
    surroundings = Surroundings(environ, EnvironmentSecrets(environ), root=root, debug=debug)
    return settle_proxy(parse_proxy(data), digest_of(data), surroundings)


def _resolved(config: VmcpConfig, surroundings: Surroundings) -> tuple[Settings, list[ConfigError]]:
    """Return the settings, and what only shows when files and variables are looked at."""
    settings, found = resolve(config, surroundings)
    return settings, [*found, *_deep_checks(config, settings)]


def _without_broken(config: VmcpConfig, settings: Settings, errors: list[ConfigError]) -> Settings:
    """Leave out the backends that the errors cost; what costs nobody is a warning."""
    found: dict[int, list[ConfigError]] = {}
    for error in errors:
        for position in error.backends or ():
            found.setdefault(position, []).append(error)
    left_out = tuple(
        LeftOut(config.backends[position].name or join("backends", position), tuple(reasons))
        for position, reasons in sorted(found.items())
    )
    kept = tuple(backend for position, backend in enumerate(settings.backends) if position not in found)
    return replace(
        settings,
        backends=kept,
        outgoing={backend.name: settings.outgoing[backend.name] for backend in kept},
        warnings=(*settings.warnings, *(str(error) for error in errors if error.backends == ())),
        left_out=left_out,
    )


def is_discovered(config: VmcpConfig) -> bool:
    """Whether the gateway finds its backends itself: its configuration says so, and lists none."""
    return not config.backends and config.outgoing_auth is not None and config.outgoing_auth.source == "discovered"


class Read(Protocol):
    """Makes a configuration out of bytes: `load`, `load_proxy`."""

    def __call__(self, data: bytes, environ: Mapping[str, str], *, debug: bool = False, root: str = "") -> Loaded:
        """Read, check and resolve."""
        ...


def load_file(
    path: Path, environ: Mapping[str, str], *, debug: bool = False, root: str = "", read: Read = load
) -> Loaded:
    """Load a file; `read` says what kind of document is in it.

    Raises:
        ConfigErrors: See `load`; also when the file cannot be read.
    """
    return read(read_bounded(path), environ, debug=debug, root=root)


def read_bounded(path: Path) -> bytes:
    """Return the file's bytes.

    Raises:
        ConfigErrors: It cannot be read, or is longer than any configuration.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigErrors([ConfigError("", f"{path} cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigErrors([ConfigError("", f"{path} is longer than {MAX_CONFIG_BYTES} bytes")])
    return data


def _deep_checks(config: VmcpConfig, settings: Settings) -> Iterator[ConfigError]:
    if settings.authz is not None:
        try:
            CedarAuthorizer(settings.authz)
        except PolicyError as error:
            yield ConfigError("incomingAuth.authz", str(error))
    oidc = settings.incoming.oidc
    if oidc is not None and oidc.ca_bundle is not None:
        # A path that breaks the rules was reported already.
        with contextlib.suppress(BundlePathError):
            try:
                Trust(oidc.ca_bundle).context()
            except ConnectError as error:
                yield ConfigError("incomingAuth.oidc.caBundlePath", str(error))
    for position, (given, backend) in enumerate(zip(config.backends, settings.backends, strict=True)):
        if backend.ca_bundle is not None and (problem := _bundle_problem(backend.ca_bundle)):
            path, missing = join("backends", position, "caBundlePath"), not Path(backend.ca_bundle).is_file()
            yield ConfigError(path, f"the CA bundle {given.ca_bundle_path} {problem}", (position,), missing)


def _bundle_problem(path: str) -> str:
    """Say why a file cannot be added to what a backend's connections trust; "" = it can."""
    try:
        return pem_problem(Path(path).read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def pem_problem(content: bytes) -> str:
    """Say why a CA bundle cannot be added to what a backend's connections trust, as the end of a sentence; "" = it can.

    Reading it into a bare context takes 0.1 ms; the one for connections, with the system's trust, 20.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError:
        return "contains no PEM certificate that can be read"
    except ValueError:
        return "contains no PEM certificate"
    return ""


def _unique(errors: list[ConfigError]) -> list[ConfigError]:
    """Drop what two checks found; of two messages about one missing variable the first stays."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for error in errors:
        key = (error.path, error.message)
        if key not in seen:
            seen.add(key)
            kept.append(error)
    return kept
