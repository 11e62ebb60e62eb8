"""The values that absent operational settings have; the stock gateway merges the same ones after reading.

Every number that is a default of the configuration stands here once. The gateway fills them in with `with_defaults` and
has none of its own.
"""

from __future__ import annotations

from api.contract.composite import Step
from api.contract.config import Dialect, VmcpConfig
from api.contract.duration import Duration
from api.contract.operations import CircuitBreaker, FailureHandling, Operational, Timeouts

_SECOND = 10**9
DEFAULT_TIMEOUT = Duration(30 * _SECOND)
"""A whole call towards a backend."""
DEFAULT_HEALTH_INTERVAL = Duration(30 * _SECOND)
DEFAULT_HEALTH_TIMEOUT = Duration(10 * _SECOND)
DEFAULT_UNHEALTHY_THRESHOLD = 3
"""Failed probes in a row."""
DEFAULT_REPORTING_INTERVAL = Duration(30 * _SECOND)
DEFAULT_BREAKER_THRESHOLD = 5
"""Failures in a row that open a circuit."""
DEFAULT_BREAKER_TIMEOUT = Duration(60 * _SECOND)
"""An open circuit waits so long for its probe."""
DEFAULT_PREFIX_FORMAT = "{workload}_"


def with_defaults(config: VmcpConfig, dialect: Dialect = Dialect.NATIVE) -> VmcpConfig:
    """Fill in `operational` field by field and the type of composite steps; idempotent.

    `partialFailureMode` is filled in for the stock gateway only. Its documented default is `fail`, but it never acted
    on it. The native gateway does: as a default it would empty everybody's lists whenever one member is down, so only
    who writes it gets it.
    """
    tools = tuple(
        tool.model_copy(update={"steps": tuple(_with_type(step) for step in tool.steps)})
        for tool in config.composite_tools
    )
    operational = default_operational(config.operational, dialect)
    return config.model_copy(update={"operational": operational, "composite_tools": tools})


def default_operational(given: Operational | None, dialect: Dialect = Dialect.NATIVE) -> Operational:
    """Complete `operational`; what is given stays. See `with_defaults`."""
    operational = given or Operational()
    timeouts = operational.timeouts or Timeouts()
    failure = operational.failure_handling or FailureHandling()
    breaker = failure.circuit_breaker or CircuitBreaker()
    assumed = "fail" if dialect is Dialect.TOOLHIVE else ""
    return operational.model_copy(
        update={
            "timeouts": timeouts.model_copy(update={"default": _or(timeouts.default, DEFAULT_TIMEOUT)}),
            "failure_handling": failure.model_copy(
                update={
                    "health_check_interval": _or(failure.health_check_interval, DEFAULT_HEALTH_INTERVAL),
                    "unhealthy_threshold": failure.unhealthy_threshold or DEFAULT_UNHEALTHY_THRESHOLD,
                    "health_check_timeout": _or(failure.health_check_timeout, DEFAULT_HEALTH_TIMEOUT),
                    "status_reporting_interval": _or(failure.status_reporting_interval, DEFAULT_REPORTING_INTERVAL),
                    "partial_failure_mode": failure.partial_failure_mode or assumed,
                    "circuit_breaker": breaker.model_copy(
                        update={
                            "failure_threshold": breaker.failure_threshold or DEFAULT_BREAKER_THRESHOLD,
                            "timeout": _or(breaker.timeout, DEFAULT_BREAKER_TIMEOUT),
                        }
                    ),
                }
            ),
        }
    )


def _or(given: Duration | None, default: Duration) -> Duration:
    return given or default


def _with_type(step: Step) -> Step:
    inner = _with_type(step.step) if step.step is not None else None
    # A step with `message` but without `type` is ambiguous; validation says so.
    kind = step.type or ("" if step.message else "tool")
    return step.model_copy(update={"type": kind, "step": inner})
