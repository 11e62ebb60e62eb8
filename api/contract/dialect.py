"""What the stock gateway's dialect cannot say, and the way from native to it."""

from __future__ import annotations

from api.contract.config import Dialect, StaticBackend, VmcpConfig
from api.contract.errors import ConfigError


def dialect_errors(config: VmcpConfig, dialect: Dialect) -> list[ConfigError]:
    """Return what the dialect does not know; always empty for native."""
    if dialect is Dialect.NATIVE:
        return []
    errors = []
    for index, backend in enumerate(config.backends):
        where = f"backends[{index}]"
        if backend.header_forward is not None:
            errors.append(
                ConfigError(f"{where}.headerForward", "the toolhive dialect takes headers from env", (index,))
            )
        if backend.type not in ("", "entry"):
            errors.append(
                ConfigError(f"{where}.type", f'"{backend.type}" is unknown in the toolhive dialect', (index,))
            )
        elif (backend.type == "entry") != bool(backend.ca_bundle_path):
            errors.append(
                ConfigError(f"{where}.type", '"entry" goes with caBundlePath in the toolhive dialect', (index,))
            )
        if ".." in backend.ca_bundle_path:
            errors.append(
                ConfigError(f"{where}.caBundlePath", 'the stock gateway refuses every path with ".."', (index,))
            )
    if config.aggregation is not None and config.aggregation.conflict_resolution == "prefixOnConflict":
        errors.append(
            ConfigError("aggregation.conflictResolution", '"prefixOnConflict" is unknown in the toolhive dialect')
        )
    storage = config.session_storage
    if config.rate_limiting is not None and (storage is None or storage.provider != "redis"):
        # The native gateway counts in memory where there is no store.
        errors.append(ConfigError("rateLimiting", "requires sessionStorage with provider redis"))
    return errors


def to_dialect(config: VmcpConfig, dialect: Dialect) -> VmcpConfig:
    """Say the same in a dialect, as far as it can: types become `entry` beside a CA bundle, else vanish.

    Header forwarding is left out for the stock gateway: the caller passes it as environment variables.
    """
    if dialect is Dialect.NATIVE:
        return config
    return config.model_copy(update={"backends": tuple(_stock(backend) for backend in config.backends)})


def _stock(backend: StaticBackend) -> StaticBackend:
    return backend.model_copy(update={"type": "entry" if backend.ca_bundle_path else "", "header_forward": None})
