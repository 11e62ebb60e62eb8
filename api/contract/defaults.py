"""The values that absent operational settings have; the stock gateway merges the same ones after reading."""

from __future__ import annotations

from api.contract.composite import Step
from api.contract.config import VmcpConfig
from api.contract.duration import Duration
from api.contract.operations import CircuitBreaker, FailureHandling, Operational, Timeouts

_SECOND = 10**9
DEFAULT_TIMEOUT = Duration(30 * _SECOND)
DEFAULT_BREAKER_THRESHOLD = 5
DEFAULT_BREAKER_TIMEOUT = Duration(60 * _SECOND)


def with_defaults(config: VmcpConfig) -> VmcpConfig:
    """Fill in `operational` field by field and the type of composite steps; idempotent."""
    tools = tuple(
        tool.model_copy(update={"steps": tuple(_with_type(step) for step in tool.steps)})
        for tool in config.composite_tools
    )
    return config.model_copy(update={"operational": default_operational(config.operational), "composite_tools": tools})


def default_operational(given: Operational | None) -> Operational:
    """Complete `operational`; what is given stays."""
    operational = given or Operational()
    timeouts = operational.timeouts or Timeouts()
    failure = operational.failure_handling or FailureHandling()
    breaker = failure.circuit_breaker or CircuitBreaker()
    return operational.model_copy(
        update={
            "timeouts": timeouts.model_copy(update={"default": _or(timeouts.default, DEFAULT_TIMEOUT)}),
            "failure_handling": failure.model_copy(
                update={
                    "health_check_interval": _or(failure.health_check_interval, Duration(30 * _SECOND)),
                    "unhealthy_threshold": failure.unhealthy_threshold or 3,
                    "health_check_timeout": _or(failure.health_check_timeout, Duration(10 * _SECOND)),
                    "status_reporting_interval": _or(failure.status_reporting_interval, Duration(30 * _SECOND)),
                    "partial_failure_mode": failure.partial_failure_mode or "fail",
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
