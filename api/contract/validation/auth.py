"""Incoming and outgoing authentication."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from api.contract.auth import (
    AwsSts,
    HeaderInjection,
    IncomingAuth,
    Obo,
    RoleMapping,
    Strategy,
    TokenExchange,
    UpstreamInject,
    Xaa,
)
from api.contract.config import VmcpConfig
from api.contract.errors import join
from api.contract.headers import header_name_problem
from api.contract.secrets import SecretSource, secret_header_problem, secret_problem, secret_text
from api.contract.urls import has_http_url_shape
from api.contract.validation.backends import check_ca_path
from api.contract.validation.report import Findings, Positions

STRATEGIES = {
    "unauthenticated": "",
    "header_injection": "headerInjection",
    "token_exchange": "tokenExchange",
    "upstream_inject": "upstreamInject",
    "aws_sts": "awsSts",
    "obo": "obo",
    "xaa": "xaa",
}
"""Type -> key of its sub-object."""
TOKEN_TYPES = {short: f"urn:ietf:params:oauth:token-type:{short}" for short in ("access_token", "id_token", "jwt")}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Env = SecretSource | None


def check_incoming_auth(config: VmcpConfig, report: Findings) -> None:
    """Check `incomingAuth`."""
    auth = config.incoming_auth
    if auth is None:
        report.add("incomingAuth", "is required")
        return
    report.one_of("incomingAuth.type", auth.type, ("oidc", "local", "anonymous"))
    _check_oidc(auth, report)
    if auth.authz is None:
        return
    report.one_of("incomingAuth.authz.type", auth.authz.type, ("cedar", "none"))
    if auth.authz.type == "cedar":
        report.require("incomingAuth.authz.policies", auth.authz.policies)
        if config.optimizer is not None:
            report.add("optimizer", "cannot be combined with incomingAuth.authz of type cedar")


def _check_oidc(auth: IncomingAuth, report: Findings) -> None:
    if auth.type == "oidc" and auth.oidc is None:
        report.add("incomingAuth.oidc", "is required when type is oidc")
    if auth.oidc is None or auth.type != "oidc":
        return
    if report.require("incomingAuth.oidc.issuer", auth.oidc.issuer) and not has_http_url_shape(auth.oidc.issuer):
        report.add("incomingAuth.oidc.issuer", "must be an http:// or https:// URL with a host")
    report.require("incomingAuth.oidc.audience", auth.oidc.audience)
    for key, url in (("jwksUrl", auth.oidc.jwks_url), ("introspectionUrl", auth.oidc.introspection_url)):
        if url and not has_http_url_shape(url):
            report.add(f"incomingAuth.oidc.{key}", "must be an http:// or https:// URL with a host")
    if auth.oidc.ca_bundle_path:
        check_ca_path(auth.oidc.ca_bundle_path, "incomingAuth.oidc.caBundlePath", report)


def check_outgoing_auth(config: VmcpConfig, report: Findings, env: Env) -> None:
    """Check `outgoingAuth`."""
    auth = config.outgoing_auth
    if auth is None:
        report.add("outgoingAuth", "is required")
        return
    report.one_of("outgoingAuth.source", auth.source, ("inline", "discovered"))
    for where, strategy, costs in strategies_of(config):
        with report.costing(costs):
            check_strategy(strategy, where, report, env)


def strategies_of(config: VmcpConfig) -> Iterator[tuple[str, Strategy, tuple[int, ...] | None]]:
    """Yield every outgoing strategy: its place, the strategy, and the positions of the backends that depend on it."""
    auth, positions = config.outgoing_auth, Positions(config)
    if auth is None:
        return
    if auth.default is not None:
        yield "outgoingAuth.default", auth.default, positions.except_for(auth.backends)
    for name, strategy in auth.backends.items():
        yield join("outgoingAuth", "backends", name), strategy, positions.of(name)


def check_strategy(strategy: Strategy, where: str, report: Findings, env: Env = None) -> None:
    """Check one strategy: a known type, the sub-object of that type, and its rules.

    Args:
        strategy: of a backend, or the default.
        where: its path in the document.
        report: takes the mistakes.
        env: where the variables that it names are looked up; None: they are not.
    """
    if not report.one_of(f"{where}.type", strategy.type, STRATEGIES):
        return
    wanted = STRATEGIES[strategy.type]
    parts = {
        "headerInjection": strategy.header_injection,
        "tokenExchange": strategy.token_exchange,
        "upstreamInject": strategy.upstream_inject,
        "awsSts": strategy.aws_sts,
        "obo": strategy.obo,
        "xaa": strategy.xaa,
    }
    if wanted and parts[wanted] is None:
        report.add(f"{where}.{wanted}", f"is required when type is {strategy.type}")
    match parts.get(wanted):
        case HeaderInjection() as part:
            _check_header_injection(part, f"{where}.{wanted}", report, env)
        case TokenExchange() as part:
            _check_token_exchange(part, f"{where}.{wanted}", report, env)
        case UpstreamInject() as part:
            report.require(f"{where}.{wanted}.providerName", part.provider_name)
        case AwsSts() as part:
            _check_aws(part, f"{where}.{wanted}", report)
        case Obo() as part:
            report.require(f"{where}.{wanted}.tokenUrl", part.token_url)
            _check_secret(part.client_secret, part.client_secret_env, f"{where}.{wanted}", "clientSecret", report, env)
        case Xaa() as part:
            _check_xaa(part, f"{where}.{wanted}", report, env)
        case _:
            pass


def _check_secret(
    value: str,
    variable: str,
    where: str,
    key: str,
    report: Findings,
    env: Env,
    problem_of: Callable[[str], str | None] = secret_problem,
) -> None:
    """At most one of value and variable, the variable set, and what there is usable."""
    if value and variable:
        report.add(f"{where}.{key}", f"cannot be combined with {key}Env")
    if value and (problem := problem_of(secret_text(value))):
        report.add(f"{where}.{key}", f"the value {problem}")
    if not variable or env is None:
        return
    given = env.get(variable, "")
    if not given:
        report.add(f"{where}.{key}Env", f"environment variable {variable} is not set", missing=True)
    elif problem := problem_of(secret_text(given)):
        report.add(f"{where}.{key}Env", f"the value of environment variable {variable} {problem}")


def _check_header_injection(part: HeaderInjection, where: str, report: Findings, env: Env) -> None:
    if report.require(f"{where}.headerName", part.header_name) and (problem := header_name_problem(part.header_name)):
        report.add(f"{where}.headerName", problem)
    if not part.header_value and not part.header_value_env:
        report.add(where, "exactly one of headerValue and headerValueEnv is required")
    _check_secret(
        part.header_value, part.header_value_env, where, "headerValue", report, env, problem_of=secret_header_problem
    )


def _check_token_exchange(part: TokenExchange, where: str, report: Findings, env: Env) -> None:
    if report.require(f"{where}.tokenUrl", part.token_url) and not has_http_url_shape(part.token_url):
        report.add(f"{where}.tokenUrl", "must be an http:// or https:// URL with a host")
    _check_secret(part.client_secret, part.client_secret_env, where, "clientSecret", report, env)
    if (part.client_secret or part.client_secret_env) and not part.client_id:
        report.add(f"{where}.clientId", "is required with a client secret")
    report.one_of(
        f"{where}.subjectTokenType", part.subject_token_type, (*TOKEN_TYPES, *TOKEN_TYPES.values()), optional=True
    )


def _check_aws(part: AwsSts, where: str, report: Findings) -> None:
    report.require(f"{where}.region", part.region)
    if part.session_duration is not None and not 900 <= part.session_duration <= 43200:
        report.add(f"{where}.sessionDuration", "must be between 900 and 43200 seconds")
    if not part.fallback_role_arn and not part.role_mappings:
        report.add(where, "fallbackRoleArn or roleMappings is required")
    for index, mapping in enumerate(part.role_mappings):
        _check_mapping(mapping, f"{where}.roleMappings[{index}]", report)


def _check_mapping(mapping: RoleMapping, where: str, report: Findings) -> None:
    report.require(f"{where}.roleArn", mapping.role_arn)
    if bool(mapping.claim) == bool(mapping.matcher):
        report.add(where, "exactly one of claim and matcher is required")
    if mapping.priority is not None and mapping.priority < 0:
        report.add(f"{where}.priority", "must not be negative")


def _check_xaa(part: Xaa, where: str, report: Findings, env: Env) -> None:
    if report.require(f"{where}.idpTokenUrl", part.idp_token_url):
        _check_token_url(part.idp_token_url, f"{where}.idpTokenUrl", report, insecure=False)
    if report.require(f"{where}.targetTokenUrl", part.target_token_url):
        _check_token_url(
            part.target_token_url, f"{where}.targetTokenUrl", report, insecure=part.insecure_target_token_url
        )
    report.require(f"{where}.targetAudience", part.target_audience)
    report.one_of(f"{where}.subjectTokenType", part.subject_token_type, (TOKEN_TYPES["id_token"],), optional=True)
    for key, client, value, variable in (
        ("idpClient", part.idp_client_id, part.idp_client_secret, part.idp_client_secret_env),
        ("targetClient", part.target_client_id, part.target_client_secret, part.target_client_secret_env),
    ):
        _check_secret(value, variable, where, f"{key}Secret", report, env)
        if client and not value and not variable:
            report.add(f"{where}.{key}Id", "needs a secret")


def _check_token_url(url: str, where: str, report: Findings, *, insecure: bool) -> None:
    if not has_http_url_shape(url):
        report.add(where, "must be an https:// URL with a host")
        return
    parts = urlsplit(url)
    if parts.fragment:
        report.add(where, "must not have a fragment")
    if parts.scheme != "https" and not insecure and parts.hostname not in _LOOPBACK:
        report.add(where, "must use https")
