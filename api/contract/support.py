"""What a configuration may say but this project's gateway cannot do yet: refused by name, never ignored.

A setting that is silently without effect is worse than an error: nobody notices that calls are not limited. The gateway
refuses by this list; the operator reads it first and says it in a condition, so that no pod starts in vain.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.contract.auth import Strategy
from api.contract.config import Dialect, VmcpConfig
from api.contract.errors import ConfigError, join
from api.contract.validation.auth import strategies_of

STRATEGIES = frozenset({"unauthenticated", "header_injection", "token_exchange"})
"""Outgoing strategies of the native gateway."""


def unsupported(config: VmcpConfig, dialect: Dialect = Dialect.NATIVE) -> tuple[ConfigError, ...]:
    """Return everything that the configuration asks for in vain; nothing for the stock gateway."""
    if dialect is not Dialect.NATIVE:
        return ()
    return (*_features(config), *_incoming(config), *_outgoing(config), *_telemetry(config))


def _features(config: VmcpConfig) -> Iterator[ConfigError]:
    if config.composite_tools:
        yield _later("compositeTools", "composite tools")
    if config.optimizer is not None:
        yield _later("optimizer", "the tool optimizer")
    if config.code_mode is not None and config.code_mode.enabled:
        yield _later("codeMode", "code mode")


def _incoming(config: VmcpConfig) -> Iterator[ConfigError]:
    incoming = config.incoming_auth
    if incoming is None:
        return
    if incoming.oidc is not None and incoming.oidc.introspection_url:
        yield _later("incomingAuth.oidc.introspectionUrl", "token introspection")
    if incoming.authz is not None and incoming.authz.primary_upstream_provider:
        yield _later("incomingAuth.authz.primaryUpstreamProvider", "the embedded authorization server")


def _outgoing(config: VmcpConfig) -> Iterator[ConfigError]:
    for where, strategy, costs in strategies_of(config):
        for problem in unsupported_strategy(strategy):
            yield ConfigError(join(where, problem.path), problem.message, costs)


def unsupported_strategy(strategy: Strategy) -> tuple[ConfigError, ...]:
    """Return what of an outgoing strategy the native gateway cannot do; the places start at the strategy."""
    if strategy.type and strategy.type not in STRATEGIES:
        return (_later("type", f"the strategy {strategy.type}"),)
    exchange = strategy.token_exchange
    if strategy.type == "token_exchange" and exchange is not None and exchange.subject_provider_name:
        return (_later("tokenExchange.subjectProviderName", "tokens of upstream providers"),)
    return ()


def _telemetry(config: VmcpConfig) -> Iterator[ConfigError]:
    telemetry = config.telemetry
    if telemetry is not None and telemetry.endpoint and (telemetry.tracing_enabled or telemetry.metrics_enabled):
        yield _later("telemetry.endpoint", "exporting to an OpenTelemetry collector")


def _later(where: str, what: str) -> ConfigError:
    return ConfigError(where, f"{what} is not supported by this version")
