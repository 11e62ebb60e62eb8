"""What an MCPRemoteEndpoint's status must say: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.conditions import MCPRemoteEndpointCondition as Type
from api.conditions import MCPRemoteEndpointPhase as Phase
from api.conditions import MCPRemoteEndpointReason as Reason
from api.contract.strategies import NO_STRATEGY
from api.contract.urls import validate_remote_url
from api.v1beta1 import MCPRemoteEndpointSpec
from controllers.shared.groups import judge_group
from controllers.shared.judging import Decision, MemberObservation, with_kept
from controllers.shared.parts.part import Words
from controllers.shared.proxy.resolve import ProxyWords
from controllers.shared.proxy.standing import NOT_DEPLOYED, PASSING, ProxyState, Settled, counted, judge_proxy
from controllers.shared.remote import (
    Bundle,
    header_problems,
    judge_bundle,
    missing_secrets,
    must_wait,
    unread_bundle,
    unread_secrets,
)
from controllers.shared.verdicts import Unreadable, Verdict, conditions_json, fold, sum_up

NOT_DIRECT = frozenset((*NO_STRATEGY, "awsSts"))
"""Types of auth configs that a direct endpoint refuses: those without a strategy in the gateway, and AWS signing."""

IMAGE_ADVICE = (
    "type proxy runs this project's gateway image, and the operator is set up for another one (dialect toolhive): "
    "set VMCP_IMAGE to this project's image, or create the endpoint anew with type direct"
)

PENDING_REASONS = PASSING | {Reason.GROUP_REF_NOT_READY, Reason.READ_FAILED}
"""Something is only not there yet; every other failure is for the user to mend."""

WORDS = ProxyWords(
    oidc=Words(
        Type.OIDC_CONFIG_VALID, Reason.OIDC_CONFIG_VALID, Reason.OIDC_CONFIG_NOT_FOUND, Reason.OIDC_CONFIG_INVALID
    ),
    authz=Words(
        Type.AUTHZ_CONFIG_VALID, Reason.AUTHZ_CONFIG_VALID, Reason.AUTHZ_CONFIG_NOT_FOUND, Reason.AUTHZ_CONFIG_INVALID
    ),
    telemetry=Words(
        Type.TELEMETRY_CONFIG_VALID,
        Reason.TELEMETRY_CONFIG_VALID,
        Reason.TELEMETRY_CONFIG_NOT_FOUND,
        Reason.TELEMETRY_CONFIG_INVALID,
    ),
    auth=Words(
        Type.AUTH_CONFIG_VALID, Reason.AUTH_CONFIG_VALID, Reason.AUTH_CONFIG_NOT_FOUND, Reason.AUTH_CONFIG_INVALID
    ),
    unread=Reason.READ_FAILED,
)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The MCPExternalAuthConfig that an endpoint names.

    Attributes:
        type: its `spec.type`.
        problem: message of its own Valid condition, if that is False.
    """

    type: str
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(MemberObservation):
    """Everything that the decision depends on.

    Attributes:
        spec: of the endpoint.
        deleting: its deletion waits for somebody's finalizer.
        auth_config: the auth config that it names; None when that is missing. Meaningless without a reference.
        tool_config_exists: whether the tool config that it names is there; meaningless without a reference.
        older_namesake: kind of an older workload of its name.
        open_circuits: names of the gateways that serve it, when all of them report its circuit open; else empty.
        proxy: for type proxy.
    """

    spec: MCPRemoteEndpointSpec | Unreadable
    deleting: bool = False
    auth_config: AuthConfig | None = None
    tool_config_exists: bool = False
    older_namesake: str | None = None
    open_circuits: tuple[str, ...] = ()
    proxy: ProxyState | None = None


def decide(snapshot: Snapshot) -> Decision:
    """Decide on an endpoint that deploys nothing."""
    judged = judge(snapshot)
    return judged if isinstance(judged, Decision) else conclude(snapshot, judged)


def judge(snapshot: Snapshot) -> list[Verdict] | Decision:
    """Make all checks; a decision where nothing can be said yet, or the object cannot even be read.

    A check whose material could not be read for a passing reason keeps its last verdict. Where there never was one it
    is Unknown, and so is Ready unless another check failed.
    """
    spec = snapshot.spec
    if isinstance(spec, Unreadable):
        verdict = Verdict(Type.CONFIGURATION_VALID, False, Reason.REMOTE_URL_INVALID, spec.message)
        return Decision(_status(snapshot, [verdict], url=None))
    wait = must_wait(snapshot.group, judged=bool(snapshot.previous), waited=snapshot.waited)
    if wait is not None:
        return Decision(wait=wait)
    verdicts = with_kept(snapshot, _checks(snapshot, spec))
    return verdicts if verdicts is not None else Decision()


def conclude(snapshot: Snapshot, verdicts: list[Verdict], settled: Settled = NOT_DEPLOYED) -> Decision:
    """Say what the status must be.

    Args:
        snapshot: what was seen.
        verdicts: of all checks.
        settled: what came of a proxy's objects.
    """
    spec, proxy = snapshot.spec, snapshot.proxy
    assert not isinstance(spec, Unreadable)
    if proxy is None:
        return Decision(_status(snapshot, verdicts, url=spec.remote_url))
    verdicts = [*verdicts, *judge_proxy(snapshot.previous, snapshot.generation, settled)]
    status = _status(snapshot, verdicts, url=proxy.url, advice=_advice(spec))
    return Decision(status, again=settled.due)


def _advice(spec: MCPRemoteEndpointSpec) -> Iterator[Verdict]:
    """Yield what stops nothing."""
    replicas = spec.proxy_config.replicas if spec.proxy_config is not None else None
    if replicas is not None and replicas > 1:
        message = f"{replicas} replicas: a session lives in one pod only, and ends with it"
        yield Verdict(Type.SESSION_STORAGE_WARNING, True, Reason.SESSION_STORAGE_MISSING, message)


def _checks(snapshot: Snapshot, spec: MCPRemoteEndpointSpec) -> Iterator[Verdict]:
    """Yield each check that applies, in the order in which they become the reason of Ready."""
    yield _check_configuration(snapshot, spec)
    yield judge_group(
        snapshot.group,
        spec.group_ref.name,
        Type.GROUP_REF_VALID,
        valid=Reason.GROUP_REF_IS_VALID,
        not_ready=Reason.GROUP_REF_NOT_READY,
        not_found=Reason.GROUP_REF_NOT_FOUND,
    )
    if spec.external_auth_config_ref is not None and snapshot.proxy is None:
        yield _check_auth_config(snapshot.auth_config, spec.external_auth_config_ref.name)
    if spec.ca_bundle_ref is not None:
        ref = spec.ca_bundle_ref.config_map_ref
        yield _check_bundle(snapshot, ref.name, ref.key)
    if spec.header_forward is not None and spec.header_forward.add_headers_from_secret:
        yield _check_secrets(snapshot, missing_secrets(spec.header_forward, snapshot.secrets))
    if spec.tool_config_ref is not None:
        yield _check_tool_config(snapshot, spec.tool_config_ref.name)
    if snapshot.proxy is not None:
        yield from snapshot.proxy.verdicts


def _check_configuration(snapshot: Snapshot, spec: MCPRemoteEndpointSpec) -> Verdict:
    problems = list(_configuration_problems(snapshot, spec))
    if not problems:
        return Verdict(Type.CONFIGURATION_VALID, True, Reason.CONFIGURATION_VALID, "The spec can be served")
    return Verdict(Type.CONFIGURATION_VALID, False, problems[0][0], "; ".join(message for _, message in problems))


def _configuration_problems(snapshot: Snapshot, spec: MCPRemoteEndpointSpec) -> Iterator[tuple[Reason, str]]:
    proxy = snapshot.proxy
    if proxy is not None and not proxy.native:
        yield Reason.PROXY_MODE_NOT_SUPPORTED, IMAGE_ADVICE
    problem = validate_remote_url(spec.remote_url, allow_private=spec.allow_private_endpoint)
    if problem is not None:
        yield Reason.REMOTE_URL_INVALID, problem
    config = snapshot.auth_config
    if spec.type == "direct" and config is not None and config.type in NOT_DIRECT:
        message = f"an auth config of type {config.type} cannot be used by a direct endpoint"
        yield Reason.UNSUPPORTED_AUTH_TYPE, message
    if spec.header_forward is not None:
        restricted, illegal = header_problems(spec.header_forward, snapshot.secrets)
        for message in (*restricted, *illegal):
            yield Reason.RESTRICTED_HEADER, message
    if snapshot.older_namesake is not None:
        message = f"an older {snapshot.older_namesake} has the same name; this endpoint waits until it is gone"
        yield Reason.NAME_COLLISION, message
    for message in (*proxy.problems, proxy.template_problem) if proxy is not None else ():
        if message:
            yield Reason.PROXY_CONFIG_INVALID, message


def _check_auth_config(config: AuthConfig | None, name: str) -> Verdict:
    type_ = Type.AUTH_CONFIG_VALID
    if config is None:
        return Verdict(type_, False, Reason.AUTH_CONFIG_NOT_FOUND, f"MCPExternalAuthConfig '{name}' not found")
    if config.problem is not None:
        message = f"MCPExternalAuthConfig '{name}' is not valid: {config.problem}"
        return Verdict(type_, False, Reason.AUTH_CONFIG_INVALID, message)
    return Verdict(type_, True, Reason.AUTH_CONFIG_VALID, f"MCPExternalAuthConfig '{name}' is valid")


def _check_bundle(snapshot: Snapshot, name: str, key: str) -> Verdict:
    type_ = Type.CA_BUNDLE_VALID
    match judge_bundle(snapshot.bundle, key):
        case Bundle.UNREAD:
            return Verdict(type_, None, Reason.READ_FAILED, unread_bundle(name, snapshot.unread))
        case Bundle.NO_CONFIG_MAP:
            return Verdict(type_, False, Reason.CA_BUNDLE_NOT_FOUND, f"ConfigMap '{name}' not found")
        case Bundle.NO_KEY:
            return Verdict(type_, False, Reason.CA_BUNDLE_KEY_NOT_FOUND, f"ConfigMap '{name}' has no key '{key}'")
        case Bundle.NO_CERTIFICATE:
            message = f"key '{key}' of ConfigMap '{name}' contains no PEM certificate"
            return Verdict(type_, False, Reason.CA_BUNDLE_INVALID, message)
        case Bundle.GOOD:
            return Verdict(type_, True, Reason.CA_BUNDLE_VALID, f"CA bundle '{name}' is valid")


def _check_secrets(snapshot: Snapshot, problems: list[str] | None) -> Verdict:
    if problems is None:
        message = unread_secrets(snapshot.secrets, snapshot.unread)
        return Verdict(Type.HEADER_SECRETS_VALID, None, Reason.READ_FAILED, message)
    if problems:
        return Verdict(Type.HEADER_SECRETS_VALID, False, Reason.HEADER_SECRET_NOT_FOUND, "; ".join(problems))
    message = "All header Secrets and their keys exist"
    return Verdict(Type.HEADER_SECRETS_VALID, True, Reason.HEADER_SECRETS_VALID, message)


def _check_tool_config(snapshot: Snapshot, name: str) -> Verdict:
    if snapshot.tool_config_exists:
        return Verdict(Type.TOOL_CONFIG_VALID, True, Reason.TOOL_CONFIG_VALID, f"MCPToolConfig '{name}' exists")
    return Verdict(Type.TOOL_CONFIG_VALID, False, Reason.TOOL_CONFIG_NOT_FOUND, f"MCPToolConfig '{name}' not found")


def _ready(snapshot: Snapshot) -> Verdict:
    """Ready while every check passes."""
    if snapshot.open_circuits:
        message = f"circuit open in {', '.join(snapshot.open_circuits)}"
        return Verdict(Type.READY, False, Reason.BACKEND_UNAVAILABLE, message)
    return Verdict(Type.READY, True, Reason.ENDPOINT_READY, "All checks passed")


def _phase(snapshot: Snapshot, sums: list[Verdict]) -> Phase:
    if snapshot.deleting:
        return Phase.TERMINATING
    ready = sums[0]
    if len(sums) > 1 or ready.reason == Reason.BACKEND_UNAVAILABLE:
        return Phase.FAILED
    return Phase.READY if ready.ok else Phase.PENDING


def _status(
    snapshot: Snapshot, verdicts: list[Verdict], *, url: str | None, advice: Iterable[Verdict] = ()
) -> Mapping[str, Any]:
    """Return the status. Its url is there while every check passes; an open circuit does not take it away."""
    decisive = counted(verdicts, snapshot.previous, snapshot.generation)
    sums = sum_up(decisive, fine=_ready(snapshot), passing=PENDING_REASONS)
    made = (*verdicts, *advice, *sums)
    said = {str(verdict.type) for verdict in made}
    conditions = fold(
        snapshot.previous,
        made,
        drop=[type_ for type_ in Type if type_ not in said],
        generation=snapshot.generation,
        now=snapshot.now,
    )
    failed = any(not verdict.ok for verdict in decisive)
    return {
        "observedGeneration": snapshot.generation,
        "phase": str(_phase(snapshot, sums)),
        "url": None if failed or snapshot.deleting else url,
        "conditions": conditions_json(conditions),
    }
