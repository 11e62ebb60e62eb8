"""Whether an MCPExternalAuthConfig can be used: a pure function of its spec."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.alias_generators import to_snake

from api.conditions import MCPExternalAuthConfigCondition as Type
from api.conditions import MCPExternalAuthConfigReason as Reason
from api.contract.strategies import Converted, convert_strategy
from api.contract.validation.auth import check_strategy
from api.contract.validation.report import Findings
from api.v1beta1 import MCPExternalAuthConfigSpec
from api.v1beta1.mcpexternalauthconfig import CONFIGURED_TYPES
from controllers.mcpexternalauthconfig.auth_server import auth_server_problems, synthesizes_identity
from controllers.shared.configkind import Judged
from controllers.shared.verdicts import Unreadable, Verdict

_READY = Verdict(Type.READY, True, Reason.CONFIG_READY, "The configuration can be used")


def judge(name: str, spec: MCPExternalAuthConfigSpec | Unreadable) -> Judged:
    """Judge an auth config."""
    return Judged(_valid(name, spec), fine=_READY, others=tuple(_identity(spec)))


def _valid(name: str, spec: MCPExternalAuthConfigSpec | Unreadable) -> Verdict:
    if isinstance(spec, Unreadable):
        return Verdict(Type.VALID, False, Reason.VALIDATION_FAILED, spec.message)
    problems = list(_structure_problems(spec))
    if spec.embedded_auth_server is not None:
        problems += auth_server_problems(spec.embedded_auth_server)
    if problems:
        return Verdict(Type.VALID, False, Reason.VALIDATION_FAILED, "; ".join(problems))
    if spec.type == "obo":
        message = "type obo needs a handler that is not part of this build"
        return Verdict(Type.VALID, False, Reason.ENTERPRISE_REQUIRED, message)
    problems = list(_strategy_problems(name, spec))
    if problems:
        return Verdict(Type.VALID, False, Reason.INVALID_CONFIG, "; ".join(problems))
    return Verdict(Type.VALID, True, Reason.VALIDATION_SUCCEEDED, "Spec validation passed")


def _structure_problems(spec: MCPExternalAuthConfigSpec) -> Iterator[str]:
    """Yield what the API server's rules refuse, for objects that were stored before those rules."""
    for name in CONFIGURED_TYPES:
        if (getattr(spec, to_snake(name)) is not None) != (spec.type == name):
            yield f"{name} configuration must be set if and only if type is '{name}'"


def _strategy_problems(name: str, spec: MCPExternalAuthConfigSpec) -> Iterator[str]:
    """Yield what the gateway would refuse in the strategy that it gets."""
    converted = convert_strategy(name, spec)
    if isinstance(converted, Converted):
        report = Findings()
        check_strategy(converted.strategy, "spec", report)
        yield from (f"{error.path}: {error.message}" for error in report.errors)


def _identity(spec: MCPExternalAuthConfigSpec | Unreadable) -> Iterator[Verdict]:
    if isinstance(spec, Unreadable) or spec.embedded_auth_server is None:
        return
    if synthesizes_identity(spec.embedded_auth_server):
        message = "An oauth2 upstream has neither userInfo nor identityFromToken; users get an identity per token"
        yield Verdict(Type.IDENTITY_SYNTHESIZED, True, Reason.OAUTH2_WITHOUT_USER_INFO, message)
    else:
        message = "Every upstream identifies the user"
        yield Verdict(Type.IDENTITY_SYNTHESIZED, False, Reason.ALL_HAVE_USER_INFO, message)
