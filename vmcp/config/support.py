"""What the file may say but this version cannot do: refused by name, never ignored.

A setting that is silently without effect is worse than an error: nobody notices that calls are not limited.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.contract.auth import Strategy
from api.contract.config import VmcpConfig
from api.contract.errors import ConfigError, join

_STRATEGIES = frozenset({"", "unauthenticated", "header_injection", "token_exchange"})


def unsupported(config: VmcpConfig) -> tuple[ConfigError, ...]:
    """Return everything that the configuration asks for in vain."""
    return (*_features(config), *_incoming(config), *_outgoing(config), *_telemetry(config))


def _features(config: VmcpConfig) -> Iterator[ConfigError]:
    if config.composite_tools:
        yield _later("compositeTools", "composite tools")
    if config.optimizer is not None:
        yield _later("optimizer", "the tool optimizer")
    if config.code_mode is not None and config.code_mode.enabled:
        yield _later("codeMode", "code mode")
    storage = config.session_storage
    if storage is not None and storage.provider == "redis":
        yield _later("sessionStorage.provider", "sessions in Redis")
    if not config.backends and config.outgoing_auth is not None and config.outgoing_auth.source == "discovered":
        yield _later("outgoingAuth.source", "discovering backends from Kubernetes")


def _incoming(config: VmcpConfig) -> Iterator[ConfigError]:
    incoming = config.incoming_auth
    if incoming is None:
        return
    if incoming.oidc is not None and incoming.oidc.introspection_url:
        yield _later("incomingAuth.oidc.introspectionUrl", "token introspection")
    if incoming.authz is not None and incoming.authz.primary_upstream_provider:
        yield _later("incomingAuth.authz.primaryUpstreamProvider", "the embedded authorization server")


def _outgoing(config: VmcpConfig) -> Iterator[ConfigError]:
    outgoing = config.outgoing_auth
    if outgoing is None:
        return
    named = [("outgoingAuth.default", outgoing.default)]
    named += [(join("outgoingAuth", "backends", name), strategy) for name, strategy in outgoing.backends.items()]
    for where, strategy in named:
        if strategy is not None:
            yield from _strategy(where, strategy)


def _strategy(where: str, strategy: Strategy) -> Iterator[ConfigError]:
    if strategy.type not in _STRATEGIES:
        yield _later(f"{where}.type", f"the strategy {strategy.type}")
    exchange = strategy.token_exchange
    if strategy.type == "token_exchange" and exchange is not None and exchange.subject_provider_name:
        yield _later(f"{where}.tokenExchange.subjectProviderName", "tokens of upstream providers")


def _telemetry(config: VmcpConfig) -> Iterator[ConfigError]:
    telemetry = config.telemetry
    if telemetry is not None and telemetry.endpoint and (telemetry.tracing_enabled or telemetry.metrics_enabled):
        yield _later("telemetry.endpoint", "exporting to an OpenTelemetry collector")


def _later(where: str, what: str) -> ConfigError:
    return ConfigError(where, f"{what} is not supported by this version")
