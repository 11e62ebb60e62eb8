"""From an MCPExternalAuthConfig to the strategy of a gateway: the only converter, used by operator and gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api.common.references import SecretKeyRef
from api.conditions import VirtualMCPServerReason
from api.contract.auth import (
    AwsSts,
    HeaderInjection,
    RoleMapping,
    Strategy,
    TokenExchange,
    UpstreamInject,
    Xaa,
)
from api.contract.identifiers import EnvInput, SecretPurpose
from api.contract.validation.auth import TOKEN_TYPES
from api.v1beta1.mcpexternalauthconfig import (
    AWSStsConfig,
    MCPExternalAuthConfigSpec,
    TokenExchangeConfig,
    XAAConfig,
)

NO_STRATEGY = ("bearerToken", "embeddedAuthServer", "obo")
"""Types that no gateway can apply towards a backend."""


@dataclass(frozen=True, slots=True)
class EnvSource:
    """An environment variable of a gateway, and the key of the Secret that fills it."""

    input: EnvInput
    secret: str
    key: str


@dataclass(frozen=True)
class Converted:
    """A strategy, and the variables that it reads."""

    strategy: Strategy
    secrets: tuple[EnvSource, ...] = ()


@dataclass(frozen=True)
class NotConverted:
    """Why there is no strategy."""

    reason: VirtualMCPServerReason
    message: str


def secret_sources(name: str, spec: MCPExternalAuthConfigSpec) -> tuple[EnvSource, ...]:
    """Return the variables that the strategy of an MCPExternalAuthConfig reads, sorted by stock name.

    Needed before conversion: which variable an input gets depends on all inputs of the Deployment.
    """
    found: list[tuple[SecretPurpose, SecretKeyRef | None]] = []
    if spec.token_exchange is not None:
        found.append((SecretPurpose.TOKEN_EXCHANGE, spec.token_exchange.client_secret_ref))
    if spec.header_injection is not None:
        found.append((SecretPurpose.HEADER_INJECTION, spec.header_injection.value_secret_ref))
    if spec.xaa is not None:
        found.append((SecretPurpose.XAA_IDP, spec.xaa.idp_client_secret_ref))
        found.append((SecretPurpose.XAA_TARGET, spec.xaa.target_client_secret_ref))
    sources = [EnvSource(EnvInput(purpose, (name,)), ref.name, ref.key) for purpose, ref in found if ref is not None]
    return tuple(sorted(sources, key=lambda source: source.input.natural_name))


def convert_strategy(
    name: str,
    spec: MCPExternalAuthConfigSpec,
    env_name: Callable[[EnvInput], str] = lambda item: item.natural_name,
) -> Converted | NotConverted:
    """Convert an MCPExternalAuthConfig.

    Args:
        name: of the MCPExternalAuthConfig.
        spec: as the API server admitted it.
        env_name: the variable of an input (`assign_env_names`); the stock name by default.
    """
    if spec.type == "obo":
        return NotConverted(
            VirtualMCPServerReason.ENTERPRISE_REQUIRED,
            f"MCPExternalAuthConfig {name}: type obo is not part of this build",
        )
    variables = {source.input.purpose: env_name(source.input) for source in secret_sources(name, spec)}
    strategy = _strategy(spec, variables)
    if strategy is None:
        return NotConverted(
            VirtualMCPServerReason.CONVERSION_FAILED,
            f"MCPExternalAuthConfig {name}: type {spec.type} is not supported for backends of a VirtualMCPServer",
        )
    return Converted(strategy, secret_sources(name, spec))


def _strategy(spec: MCPExternalAuthConfigSpec, variables: dict[SecretPurpose, str]) -> Strategy | None:
    if spec.type == "unauthenticated":
        return Strategy(type="unauthenticated")
    if spec.type == "headerInjection" and spec.header_injection is not None:
        injection = HeaderInjection(
            header_name=spec.header_injection.header_name,
            header_value_env=variables[SecretPurpose.HEADER_INJECTION],
        )
        return Strategy(type="header_injection", header_injection=injection)
    if spec.type == "tokenExchange" and spec.token_exchange is not None:
        return Strategy(type="token_exchange", token_exchange=_token_exchange(spec.token_exchange, variables))
    if spec.type == "upstreamInject" and spec.upstream_inject is not None:
        inject = UpstreamInject(provider_name=spec.upstream_inject.provider_name)
        return Strategy(type="upstream_inject", upstream_inject=inject)
    if spec.type == "awsSts" and spec.aws_sts is not None:
        return Strategy(type="aws_sts", aws_sts=_aws_sts(spec.aws_sts))
    if spec.type == "xaa" and spec.xaa is not None:
        return Strategy(type="xaa", xaa=_xaa(spec.xaa, variables))
    return None


def _token_exchange(given: TokenExchangeConfig, variables: dict[SecretPurpose, str]) -> TokenExchange:
    kind = given.subject_token_type or ""
    return TokenExchange(
        token_url=given.token_url,
        client_id=given.client_id or "",
        client_secret_env=variables.get(SecretPurpose.TOKEN_EXCHANGE, ""),
        audience=given.audience,
        scopes=given.scopes,
        subject_token_type=TOKEN_TYPES.get(kind, kind),
        subject_provider_name=given.subject_provider_name or "",
    )


def _aws_sts(given: AWSStsConfig) -> AwsSts:
    mappings = tuple(
        RoleMapping(
            claim=mapping.claim or "",
            matcher=mapping.matcher or "",
            role_arn=mapping.role_arn,
            priority=mapping.priority,
        )
        for mapping in given.role_mappings
    )
    return AwsSts(
        region=given.region,
        service=given.service,
        fallback_role_arn=given.fallback_role_arn or "",
        role_mappings=mappings,
        role_claim=given.role_claim,
        session_duration=given.session_duration,
        session_name_claim=given.session_name_claim,
        subject_provider_name=given.subject_provider_name or "",
    )


def _xaa(given: XAAConfig, variables: dict[SecretPurpose, str]) -> Xaa:
    return Xaa(
        idp_token_url=given.idp_token_url,
        idp_client_id=given.idp_client_id or "",
        idp_client_secret_env=variables.get(SecretPurpose.XAA_IDP, ""),
        target_token_url=given.target_token_url,
        insecure_target_token_url=bool(given.insecure_target_token_url),
        target_client_id=given.target_client_id or "",
        target_client_secret_env=variables.get(SecretPurpose.XAA_TARGET, ""),
        target_audience=given.target_audience,
        target_resource=given.target_resource or "",
        scopes=given.scopes,
        subject_provider_name=given.subject_provider_name or "",
        subject_token_type=given.subject_token_type or "",
    )
