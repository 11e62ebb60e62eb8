"""What an MCPRemoteProxy's status must say: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.conditions import MCPRemoteProxyCondition as Type
from api.conditions import MCPRemoteProxyPhase as Phase
from api.conditions import MCPRemoteProxyReason as Reason
from api.contract.urls import validate_remote_url
from api.v1beta1 import MCPRemoteProxySpec
from controllers.shared.groups import judge_group
from controllers.shared.judging import Decision, MemberObservation, with_kept
from controllers.shared.parts.part import Words
from controllers.shared.proxy.resolve import ProxyWords
from controllers.shared.proxy.standing import NOT_DEPLOYED, PASSING, ProxyState, Settled, counted, judge_proxy
from controllers.shared.remote import header_problems, missing_secrets, unread_secrets
from controllers.shared.verdicts import Unreadable, Verdict, conditions_json, fold, sum_up

IMAGE_ADVICE = (
    "this operator runs proxies with this project's gateway image, and is set up for another one (dialect toolhive): "
    "set VMCP_IMAGE to this project's image; pods that another operator started are left as they are"
)
LEFT_BEHIND = (
    "AuthConfigured",
    "AuthServerRefValidated",
    "CABundleRefValidated",
    "AuthzPrimaryUpstreamProviderIgnored",
)
"""Condition types of ToolHive's operator that this one does not write: taken away, for nobody keeps them true."""
PENDING_REASONS = PASSING | {Reason.READ_FAILED}
"""Something is only not there yet; every other failure is for the user to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(MemberObservation):
    """Everything that the decision depends on.

    Attributes:
        spec: of the proxy.
        deleting: its deletion waits for somebody's finalizer.
        tool_config_exists: whether the tool config that it names is there; meaningless without a reference.
        older_namesake: kind of an older workload of its name.
        url: of its status so far.
        proxy: what its references came to; None only where the object cannot be read.
    """

    spec: MCPRemoteProxySpec | Unreadable
    deleting: bool = False
    tool_config_exists: bool = False
    older_namesake: str | None = None
    url: str | None = None
    proxy: ProxyState | None = None


def words_of(spec: MCPRemoteProxySpec) -> ProxyWords:
    """Return what the checks of the references are called: policies of the proxy's own count as its configuration."""
    return ProxyWords(
        oidc=Words(
            Type.OIDC_CONFIG_REF_VALIDATED,
            Reason.OIDC_CONFIG_REF_VALID,
            Reason.OIDC_CONFIG_REF_NOT_FOUND,
            Reason.OIDC_CONFIG_REF_NOT_VALID,
        ),
        authz=_authz_words(spec),
        telemetry=Words(
            Type.TELEMETRY_CONFIG_REF_VALIDATED,
            Reason.TELEMETRY_CONFIG_REF_VALID,
            Reason.TELEMETRY_CONFIG_REF_NOT_FOUND,
            Reason.TELEMETRY_CONFIG_REF_INVALID,
        ),
        auth=Words(
            Type.EXTERNAL_AUTH_CONFIG_VALIDATED,
            Reason.EXTERNAL_AUTH_CONFIG_VALID,
            Reason.EXTERNAL_AUTH_CONFIG_NOT_FOUND,
            Reason.INVALID_CONFIG,
        ),
        unread=Reason.READ_FAILED,
    )


def _authz_words(spec: MCPRemoteProxySpec) -> Words:
    if spec.authz_config_ref is not None:
        return Words(
            Type.AUTHZ_CONFIG_REF_VALIDATED,
            Reason.AUTHZ_CONFIG_REF_VALID,
            Reason.AUTHZ_CONFIG_REF_NOT_FOUND,
            Reason.AUTHZ_CONFIG_REF_NOT_VALID,
        )
    inline = spec.authz_config is not None and spec.authz_config.type == "inline"
    return Words(
        Type.CONFIGURATION_VALID,
        Reason.CONFIGURATION_VALID,
        Reason.AUTHZ_CONFIG_MAP_NOT_FOUND,
        Reason.AUTHZ_POLICY_SYNTAX_INVALID if inline else Reason.AUTHZ_CONFIG_MAP_INVALID,
    )


def judge(snapshot: Snapshot) -> list[Verdict] | Decision:
    """Make all checks; a decision where nothing new can be said, or the object cannot even be read.

    A check whose material could not be read for a passing reason keeps its last verdict. Where there never was one it
    is Unknown, and so is Ready unless another check failed.
    """
    spec, proxy = snapshot.spec, snapshot.proxy
    if isinstance(spec, Unreadable) or proxy is None:
        message = spec.message if isinstance(spec, Unreadable) else ""
        verdict = Verdict(Type.CONFIGURATION_VALID, False, Reason.REMOTE_URL_INVALID, message)
        return Decision(_status(snapshot, [verdict], url=None))
    verdicts = with_kept(snapshot, _checks(snapshot, spec, proxy))
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
    assert proxy is not None
    verdicts = [*verdicts, *judge_proxy(snapshot.previous, snapshot.generation, settled)]
    status = _status(snapshot, verdicts, url=proxy.url, advice=_advice(snapshot, spec))
    if not proxy.native and settled.rollout is not None and settled.rollout.available:
        # Pods that ToolHive's operator made serve on, where it said that they do.
        status = {**status, "url": snapshot.url}
    return Decision(status, again=settled.due)


def _advice(snapshot: Snapshot, spec: MCPRemoteProxySpec) -> Iterator[Verdict]:
    """Yield what stops nothing. A proxy works without its group, which only gateways look at."""
    if spec.group_ref is not None:
        yield judge_group(
            snapshot.group,
            spec.group_ref.name,
            Type.GROUP_REF_VALIDATED,
            valid=Reason.GROUP_REF_IS_VALID,
            not_ready=Reason.GROUP_REF_NOT_READY,
            not_found=Reason.GROUP_REF_NOT_FOUND,
        )
    type_ = Type.SESSION_STORAGE_WARNING
    if spec.replicas is None or spec.replicas <= 1:
        message = "a single replica needs no shared session store"
        yield Verdict(type_, False, Reason.SESSION_STORAGE_NOT_APPLICABLE, message)
    else:
        message = f"{spec.replicas} replicas: a session lives in one pod only, and ends with it"
        yield Verdict(type_, True, Reason.SESSION_STORAGE_MISSING, message)


def _checks(snapshot: Snapshot, spec: MCPRemoteProxySpec, proxy: ProxyState) -> Iterator[Verdict]:
    """Yield each check that applies, in the order in which they become the reason of Ready."""
    yield _check_configuration(snapshot, spec, proxy)
    if spec.pod_template_spec is not None:
        yield _check_template(proxy)
    if spec.tool_config_ref is not None:
        yield _check_tool_config(snapshot, spec.tool_config_ref.name)
    yield from (verdict for verdict in proxy.verdicts if verdict.type != Type.CONFIGURATION_VALID)


def _check_configuration(snapshot: Snapshot, spec: MCPRemoteProxySpec, proxy: ProxyState) -> Verdict:
    """Judge the spec, and what ToolHive counts as its configuration: header Secrets, policies of its own, its auth."""
    type_ = Type.CONFIGURATION_VALID
    problems = list(_configuration_problems(snapshot, spec, proxy))
    if problems:
        return Verdict(type_, False, problems[0][0], "; ".join(message for _, message in problems))
    unread = list(_unread(snapshot, spec, proxy))
    if unread:
        return Verdict(type_, None, Reason.READ_FAILED, "; ".join(unread))
    return Verdict(type_, True, Reason.CONFIGURATION_VALID, "The spec can be served")


def _configuration_problems(
    snapshot: Snapshot, spec: MCPRemoteProxySpec, proxy: ProxyState
) -> Iterator[tuple[str, str]]:
    if not proxy.native:
        yield Reason.PROXY_MODE_NOT_SUPPORTED, IMAGE_ADVICE
    problem = validate_remote_url(spec.remote_url, allow_private=spec.allow_private_endpoint)
    if problem is not None:
        yield Reason.REMOTE_URL_INVALID, problem
    if spec.header_forward is not None:
        restricted, illegal = header_problems(spec.header_forward, snapshot.secrets)
        for message in (*restricted, *illegal):
            yield Reason.RESTRICTED_HEADER, message
        for message in missing_secrets(spec.header_forward, snapshot.secrets) or ():
            yield Reason.HEADER_SECRET_NOT_FOUND, message
    for verdict in proxy.verdicts:
        own = verdict.type == Type.CONFIGURATION_VALID or verdict.reason == Reason.EXTERNAL_AUTH_CONFIG_NOT_FOUND
        if verdict.ok is False and own:
            yield verdict.reason, verdict.message
    if snapshot.older_namesake is not None:
        message = f"an older {snapshot.older_namesake} has the same name; this proxy waits until it is gone"
        yield Reason.NAME_COLLISION, message
    for message in proxy.problems:
        yield Reason.PROXY_CONFIG_INVALID, message


def _unread(snapshot: Snapshot, spec: MCPRemoteProxySpec, proxy: ProxyState) -> Iterator[str]:
    """Say what of the configuration could not be read for a passing reason."""
    if spec.header_forward is not None and missing_secrets(spec.header_forward, snapshot.secrets) is None:
        yield unread_secrets(snapshot.secrets, snapshot.unread)
    yield from (v.message for v in proxy.verdicts if v.ok is None and v.type == Type.CONFIGURATION_VALID)


def _check_template(proxy: ProxyState) -> Verdict:
    if proxy.template_problem:
        return Verdict(Type.POD_TEMPLATE_VALID, False, Reason.INVALID_POD_TEMPLATE_SPEC, proxy.template_problem)
    message = "podTemplateSpec can be merged"
    return Verdict(Type.POD_TEMPLATE_VALID, True, Reason.VALID_POD_TEMPLATE_SPEC, message)


def _check_tool_config(snapshot: Snapshot, name: str) -> Verdict:
    type_ = Type.TOOL_CONFIG_VALIDATED
    if snapshot.tool_config_exists:
        return Verdict(type_, True, Reason.TOOL_CONFIG_VALID, f"MCPToolConfig '{name}' exists")
    return Verdict(type_, False, Reason.TOOL_CONFIG_NOT_FOUND, f"MCPToolConfig '{name}' not found")


def _phase(snapshot: Snapshot, sums: list[Verdict]) -> Phase:
    if snapshot.deleting:
        return Phase.TERMINATING
    if len(sums) > 1:
        return Phase.FAILED
    return Phase.READY if sums[0].ok else Phase.PENDING


def _status(
    snapshot: Snapshot, verdicts: list[Verdict], *, url: str | None, advice: Iterable[Verdict] = ()
) -> Mapping[str, Any]:
    """Return the status. Its url is there while every check passes and a pod serves."""
    decisive = counted(verdicts, snapshot.previous, snapshot.generation)
    fine = Verdict(Type.READY, True, Reason.DEPLOYMENT_READY, "Remote proxy is running")
    sums = sum_up(decisive, fine=fine, passing=PENDING_REASONS)
    made = (*verdicts, *advice, *sums)
    said = {str(verdict.type) for verdict in made}
    conditions = fold(
        snapshot.previous,
        made,
        drop=[type_ for type_ in (*Type, *LEFT_BEHIND) if type_ not in said],
        generation=snapshot.generation,
        now=snapshot.now,
    )
    failed = any(not verdict.ok for verdict in decisive)
    return {
        "observedGeneration": snapshot.generation,
        "phase": str(_phase(snapshot, sums)),
        "message": sums[0].message,
        "url": None if failed or snapshot.deleting else url,
        "conditions": conditions_json(conditions),
    }
