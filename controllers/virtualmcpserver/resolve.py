"""Snapshot -> Parts: lists the references of a gateway. Each is resolved in the module that is named after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Authz, ConfigError, VmcpConfig
from api.contract.errors import join
from api.contract.identifiers import GATEWAY_PORT
from api.v1beta1 import VirtualMCPServerSpec
from controllers.shared.configkind import hash_in_status
from controllers.shared.deployed.isolation import annotation_problem, is_isolated
from controllers.shared.groups import GroupState, judge_group
from controllers.shared.parts.oidc import resolve_oidc
from controllers.shared.parts.part import Part, Words
from controllers.shared.parts.telemetry import resolve_telemetry
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.names import service_problem
from controllers.shared.workload.network import service_url
from controllers.shared.workload.pod import PodSettings, merged_template
from controllers.shared.workload.restrictions import account_problem
from controllers.shared.workload.rollout import cut
from controllers.shared.workload.strategic_merge import StrategicMergeError
from controllers.virtualmcpserver.authz import resolve_authz
from controllers.virtualmcpserver.names import CONTAINER, service_name
from controllers.virtualmcpserver.outgoing import resolve_auth_configs
from controllers.virtualmcpserver.parts import Parts, Subject
from controllers.virtualmcpserver.sessions import resolve_sessions
from controllers.virtualmcpserver.snapshot import Snapshot
from controllers.virtualmcpserver.status import sentences
from controllers.virtualmcpserver.tools import resolve_composite_tools, resolve_tool_configs
from runtime import Condition

OIDC_WORDS = Words(
    T.OIDC_CONFIG_REF_VALIDATED, R.OIDC_CONFIG_REF_VALID, R.OIDC_CONFIG_REF_NOT_FOUND, R.OIDC_CONFIG_REF_NOT_VALID
)
TELEMETRY_WORDS = Words(
    T.TELEMETRY_CONFIG_REF_VALIDATED,
    R.TELEMETRY_CONFIG_REF_VALID,
    R.TELEMETRY_CONFIG_REF_NOT_FOUND,
    R.TELEMETRY_CONFIG_REF_INVALID,
)


def resolve(snapshot: Snapshot) -> Parts:
    """Resolve every reference. Pure: what Secrets and ConfigMaps hold is not asked here, only which of them matter."""
    spec = snapshot.spec
    subject = _subject(snapshot)
    config = _config(snapshot)
    group = _group(spec.group_ref.name, snapshot.group)
    callers = spec.incoming_auth.oidc_config_ref if spec.incoming_auth.type == "oidc" else None
    oidc = resolve_oidc(callers, snapshot.oidc_config, OIDC_WORDS, _stock_url(subject))
    authz = resolve_authz(spec.incoming_auth, snapshot.authz_config, snapshot.policy_text, oidc)
    return Parts(
        subject=subject,
        members=snapshot.members,
        config=config,
        spec=_spec(spec, subject, authz.section, snapshot.unknown_dialect),
        group=group,
        oidc=oidc,
        authz=authz,
        sessions=resolve_sessions(
            spec.session_storage,
            config.section.session_storage,
            snapshot.options.redis,
            spec.replicas,
        ),
        tools=resolve_tool_configs(spec.config, snapshot.tool_configs),
        composite_tools=resolve_composite_tools(spec.config, snapshot.composite_tools),
        telemetry=resolve_telemetry(
            spec.telemetry_config_ref, snapshot.telemetry_config, TELEMETRY_WORDS, subject.name, subject.namespace
        ),
        outgoing=resolve_auth_configs(spec.outgoing_auth, snapshot.members, snapshot.auth_configs, snapshot.dialect),
        hashes={
            "oidcConfigHash": hash_in_status(snapshot.oidc_config),
            "authzConfigHash": hash_in_status(snapshot.authz_config),
            "telemetryConfigHash": hash_in_status(snapshot.telemetry_config),
        },
    )


def _stock_url(subject: Subject) -> str:
    """Return the URL that the stock operator builds, without the Service's prefix: tokens were issued for it."""
    return service_url(subject.name, subject.namespace, subject.cluster_domain, GATEWAY_PORT)


def _subject(snapshot: Snapshot) -> Subject:
    spec, options = snapshot.spec, snapshot.options
    own = [ref.name for ref in spec.image_pull_secrets if ref.name]
    return Subject(
        name=snapshot.name,
        namespace=snapshot.namespace,
        group=spec.group_ref.name,
        dialect=snapshot.dialect,
        inline=spec.outgoing_auth is not None and spec.outgoing_auth.source == "inline",
        incoming=spec.incoming_auth.type,
        passthrough_headers=spec.passthrough_headers,
        cluster_domain=options.cluster_domain,
        service_type=spec.service_type,
        session_affinity=spec.session_affinity,
        isolated=is_isolated(snapshot.annotations),
        pods=PodSettings(
            image=options.vmcp_image,
            account=spec.service_account or "",
            pull_secrets=tuple(dict.fromkeys((*own, *options.image_pull_secrets))),
            fixed_ids=not options.openshift,
            restricted=options.restrict_pod_templates,
            template=spec.pod_template_spec,
            replicas=spec.replicas,
        ),
    )


def _config(snapshot: Snapshot) -> Part[VmcpConfig]:
    """Read spec.config; keys that the configuration does not have are dropped, as the API's schema says."""
    problem = service_problem(snapshot.name, service_name)
    errors = [ConfigError("metadata.name", problem)] if problem else []
    errors += annotation_problem(snapshot.annotations)
    spec, config = snapshot.spec.config, VmcpConfig()
    if spec is not None:
        wire = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        try:
            config = VmcpConfig.model_validate(wire, extra="ignore", by_alias=True, by_name=False)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            errors += [ConfigError(join("spec.config", *item["loc"]), item["msg"]) for item in found]
    if errors:
        return Part(section=config, checks=(Verdict(T.VALID, False, R.VALIDATION_FAILED, sentences(errors)),))
    return Part(section=config, checks=(Verdict(T.VALID, True, R.VALIDATION_SUCCEEDED, "Spec validation passed"),))


def _group(name: str, state: GroupState) -> Part[None]:
    verdict = judge_group(
        state,
        name,
        T.GROUP_REF_VALIDATED,
        valid=R.GROUP_REF_VALID,
        not_ready=R.GROUP_REF_NOT_READY,
        not_found=R.GROUP_REF_NOT_FOUND,
    )
    return Part(section=None, checks=(verdict,))


def _spec(spec: VirtualMCPServerSpec, subject: Subject, authz: Authz | None, unknown_dialect: str) -> Part[None]:
    advice = []
    if unknown_dialect:
        message = f'unknown dialect "{cut(unknown_dialect)}"; using {subject.dialect}. Known: native, toolhive'
        advice.append(Condition(str(T.DIALECT_VALIDATED), "False", str(R.UNKNOWN_DIALECT), message))
    checks = (*_pods(subject.pods), *_unsupported(spec, authz))
    return Part(section=None, checks=checks, advice=tuple(advice))


def _pods(pods: PodSettings) -> Iterator[Verdict]:
    if pods.restricted and (problem := account_problem(pods.account)):
        yield Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.POD_TEMPLATE_RESTRICTED, problem)
    elif pods.template is not None:
        yield _judge_template(pods.template)


def _judge_template(patch: Mapping[str, Any]) -> Verdict:
    probe = {"metadata": {}, "spec": {"containers": [{"name": CONTAINER}], "volumes": []}}
    try:
        merged_template(probe, patch, CONTAINER)
    except StrategicMergeError as error:
        message = f"podTemplateSpec cannot be merged: {error}"
        return Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.INVALID_POD_TEMPLATE_SPEC, message)
    return Verdict(T.POD_TEMPLATE_SPEC_VALID, True, R.POD_TEMPLATE_SPEC_VALID, "podTemplateSpec is valid")


def _unsupported(spec: VirtualMCPServerSpec, authz: Authz | None) -> Iterator[Verdict]:
    if spec.embedding_server_ref is not None:
        message = "embeddingServerRef is not supported yet; set config.optimizer.embeddingService"
        yield Verdict(T.EMBEDDING_SERVER_READY, False, R.NOT_SUPPORTED, message)
    if spec.auth_server_config is not None:
        yield Verdict(T.AUTH_SERVER_CONFIG_VALIDATED, False, R.NOT_SUPPORTED, "authServerConfig is not supported yet")
    elif authz is not None and authz.primary_upstream_provider:
        message = "a primary upstream provider requires spec.authServerConfig"
        yield Verdict(T.AUTH_SERVER_CONFIG_VALIDATED, False, R.AUTHZ_PRIMARY_REQUIRES_AUTH_SERVER, message)
