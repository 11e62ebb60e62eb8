"""From a file to `Settings`: every mistake at once, in one list, whoever found it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from api.contract.config import Dialect, VmcpConfig
from api.contract.defaults import with_defaults
from api.contract.dialect import dialect_errors
from api.contract.errors import ConfigError, ConfigErrors
from api.contract.loader import MAX_CONFIG_BYTES, parse_config
from api.contract.validation import validate_config
from vmcp.authz.cedar import CedarAuthorizer, PolicyError
from vmcp.config.resolve import resolve
from vmcp.config.settings import Settings
from vmcp.config.support import unsupported
from vmcp.http.client import BundlePathError, ConnectError, Trust


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that may be used.

    Attributes:
        settings: What it says.
        digest: First 12 hex digits of the file's SHA-256: tells people which version runs.
    """

    settings: Settings
    digest: str
    source: VmcpConfig = field(repr=False)


def load(data: bytes, environ: Mapping[str, str], *, debug: bool = False, root: str = "") -> Loaded:
    """Read, check and resolve a configuration.

    Args:
        data: YAML or JSON, plain or gzip-packed, of either dialect.
        environ: Where secrets are looked up.
        debug: Log at debug level whatever the file says.
        root: Put before absolute paths of CA bundles, to run a pod's configuration outside of a pod.

    Raises:
        ConfigErrors: Everything that is wrong. Rules of meaning are checked only on a document of the right shape.
    """
    config = with_defaults(parse_config(data))
    errors = [*dialect_errors(config, Dialect.NATIVE), *validate_config(config, env=environ), *unsupported(config)]
    settings, more = resolve(config, environ, debug=debug, root=root)
    errors += [*more, *_deep_checks(settings)]
    if errors:
        raise ConfigErrors(_unique(errors))
    return Loaded(settings, hashlib.sha256(data).hexdigest()[:12], config)


def load_file(path: Path, environ: Mapping[str, str], *, debug: bool = False, root: str = "") -> Loaded:
    """Load a file.

    Raises:
        ConfigErrors: See `load`; also when the file cannot be read.
    """
    return load(read_bounded(path), environ, debug=debug, root=root)


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


def _deep_checks(settings: Settings) -> Iterator[ConfigError]:
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
