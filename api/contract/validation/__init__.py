"""The meaning of a configuration: every rule that the stock gateway's validator has, and the holes that it leaves.

Each module checks one part and adds what it finds to a `Findings`; `validate_config` runs them all.
"""

from __future__ import annotations

from api.contract.config import VmcpConfig
from api.contract.errors import ConfigError
from api.contract.secrets import SecretSource
from api.contract.validation.aggregation import check_aggregation
from api.contract.validation.auth import check_incoming_auth, check_outgoing_auth
from api.contract.validation.backends import check_backends
from api.contract.validation.composite import check_composite_tools
from api.contract.validation.operations import check_operations
from api.contract.validation.report import Findings

__all__ = ["Findings", "check_composite_tools", "validate_config"]


def validate_config(config: VmcpConfig, *, env: SecretSource | None = None) -> tuple[ConfigError, ...]:
    """Return every mistake of a configuration that has the right shape.

    Args:
        config: with the defaults filled in (`with_defaults`).
        env: where strategies look up their secrets, such as the environment; None where it is not known (the operator).
    """
    report = Findings()
    report.require("name", config.name)
    report.require("groupRef", config.group_ref)
    check_backends(config, report)
    check_incoming_auth(config, report)
    check_outgoing_auth(config, report, env)
    check_aggregation(config, report)
    check_composite_tools(config.composite_tools, report)
    check_operations(config, report)
    return tuple(report.errors)
