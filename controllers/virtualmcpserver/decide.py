"""The decision of one reconcile: a pure function from the snapshot to the wanted objects and the wanted status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import ConfigError, Dialect, VmcpConfig
from controllers.shared.strategic_merge import StrategicMergeError
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.virtualmcpserver.auth import auth_conditions, resolve_auth_configs
from controllers.virtualmcpserver.config import base_config, session_storage
from controllers.virtualmcpserver.deployment import desired_deployment, merged_template
from controllers.virtualmcpserver.draft import Draft, draft
from controllers.virtualmcpserver.environment import (
    Json,
    pod_volumes,
    redis_password,
    referenced_secrets,
)
from controllers.virtualmcpserver.members import describe_skipped
from controllers.virtualmcpserver.names import identity_name, name_problem
from controllers.virtualmcpserver.objects import (
    desired_config_map,
    desired_disruption_budget,
    desired_identity,
    desired_service,
    service_url,
)
from controllers.virtualmcpserver.references import Referenced, resolve, sentences
from controllers.virtualmcpserver.restrictions import account_problem, template_problems
from controllers.virtualmcpserver.snapshot import Snapshot
from controllers.virtualmcpserver.status import (
    FRESH,
    Health,
    blocked_health,
    compose_conditions,
    compute_health,
    health_conditions,
    report_age,
    reported_states,
)
from membership import Gateway, Skipped, choose
from runtime import Condition


@dataclass(frozen=True)
class Intents:
    """The wanted objects; empty while a check stops everything."""

    identity: tuple[Json, ...] = ()
    config_map: Json | None = None
    deployment: Json | None = None
    service: Json | None = None
    disruption_budget: Json | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is to be written."""
        return self.deployment is None


@dataclass(frozen=True)
class Decision:
    """What shall be.

    Attributes:
        intents: the wanted objects.
        conditions: the wanted conditions of the operator, without those about writing objects.
        health: phase, message, Ready.
        fields: the other fields of the status; None stands for absent.
        health_is_reported: the stock gateway reports phase, message and Ready by itself; leave them alone.
        look_again: seconds after which time alone changes the decision.
        skipped: members that are no backend.
    """

    intents: Intents
    conditions: tuple[Condition, ...]
    health: Health
    fields: dict[str, Any]
    health_is_reported: bool = False
    look_again: float | None = None
    skipped: tuple[Skipped, ...] = ()


def decide(snapshot: Snapshot) -> Decision:
    """Decide. No IO, no clock, no randomness: the same snapshot gives the same bytes."""
    referenced = resolve(snapshot)
    base, base_errors = base_config(snapshot)
    if problem := name_problem(snapshot.name):
        base_errors = [ConfigError("metadata.name", problem), *base_errors]
    resolution = resolve_auth_configs(snapshot)
    gateway = Gateway(
        dialect=snapshot.dialect,
        inline=snapshot.inline,
        references=snapshot.references,
        resolution=resolution,
        material=snapshot,
    )
    chosen = choose(snapshot.members, gateway)
    skipped = chosen.skipped
    verdicts = [*_spec_verdicts(snapshot, base, referenced), *referenced.verdicts]
    valid = Verdict(T.VALID, False, R.VALIDATION_FAILED, sentences(base_errors)) if base_errors else None
    intents = Intents()
    if valid is None and all(verdict.ok for verdict in verdicts):
        made = draft(snapshot, base, referenced, resolution, chosen.backends)
        skipped = (*skipped, *made.skipped)
        valid, published, intents = _intents(snapshot, referenced, made)
        verdicts += [published] if published is not None else []
        refused = _judge_pod(snapshot, intents)
        if refused is not None:
            verdicts, intents = [*verdicts, refused], Intents()
    elif valid is None:
        valid = Verdict(T.VALID, True, R.VALIDATION_SUCCEEDED, "Spec validation passed")
    verdicts = _one_per_type([valid, *verdicts])
    health = _health(snapshot, verdicts)
    wanted = [
        *health_conditions(health),
        *(verdict.condition(0) for verdict in verdicts),
        *_advice(snapshot, base),
        *auth_conditions(snapshot, resolution),
        _inclusion(skipped),
    ]
    generation = snapshot.vmcp.meta.generation
    status = _status(snapshot)
    age = report_age(status, snapshot.now)
    reported = _is_reported(snapshot, verdicts, age)
    return Decision(
        intents=intents,
        conditions=compose_conditions(wanted, snapshot.previous, generation=generation, now=snapshot.now),
        health=health,
        fields=_fields(snapshot, intents, status),
        health_is_reported=reported,
        look_again=(FRESH - age).total_seconds() + 1 if reported and age is not None else None,
        skipped=skipped,
    )


def _one_per_type(verdicts: list[Verdict]) -> list[Verdict]:
    """Keep one verdict per condition type: the first that is not ok, else the first."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        before = found.get(str(verdict.type))
        if before is None or (before.ok and not verdict.ok):
            found[str(verdict.type)] = verdict
    return list(found.values())


def _spec_verdicts(snapshot: Snapshot, base: VmcpConfig, referenced: Referenced) -> Iterator[Verdict]:
    spec = snapshot.spec
    if snapshot.options.restrict_pod_templates and (problem := account_problem(spec.service_account)):
        yield Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.POD_TEMPLATE_RESTRICTED, problem)
    elif spec.pod_template_spec is not None:
        yield _judge_template(spec.pod_template_spec)
    if spec.embedding_server_ref is not None:
        message = "embeddingServerRef is not supported yet; set config.optimizer.embeddingService"
        yield Verdict(T.EMBEDDING_SERVER_READY, False, R.NOT_SUPPORTED, message)
    if spec.auth_server_config is not None:
        yield Verdict(T.AUTH_SERVER_CONFIG_VALIDATED, False, R.NOT_SUPPORTED, "authServerConfig is not supported yet")
    elif referenced.authz is not None and referenced.authz.primary_upstream_provider:
        message = "a primary upstream provider needs spec.authServerConfig"
        yield Verdict(T.AUTH_SERVER_CONFIG_VALIDATED, False, R.AUTHZ_PRIMARY_REQUIRES_AUTH_SERVER, message)
    if snapshot.dialect is Dialect.NATIVE and not snapshot.inline:
        message = "the gateway cannot find its members by itself yet; set outgoingAuth.source: inline"
        yield Verdict(T.DISCOVERY_SUPPORTED, False, R.NOT_SUPPORTED, message)
    secret = redis_password(snapshot, base.model_copy(update={"session_storage": session_storage(snapshot, base)}))
    if secret is not None and not snapshot.has_key(*secret):
        message = f'Secret "{secret[0]}" with key "{secret[1]}" of the session store not found'
        yield Verdict(T.AUTH_CONFIGURED, False, R.AUTH_INVALID, message)


def _judge_template(patch: dict[str, Any]) -> Verdict:
    probe = {"metadata": {}, "spec": {"containers": [{"name": "vmcp"}], "volumes": []}}
    try:
        merged_template(probe, patch)
    except StrategicMergeError as error:
        message = f"podTemplateSpec cannot be merged: {error}"
        return Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.INVALID_POD_TEMPLATE_SPEC, message)
    return Verdict(T.POD_TEMPLATE_SPEC_VALID, True, R.POD_TEMPLATE_SPEC_VALID, "podTemplateSpec is valid")


def _judge_pod(snapshot: Snapshot, intents: Intents) -> Verdict | None:
    """Judge what podTemplateSpec makes of the very template that would be written: directives mean what is there."""
    if not snapshot.options.restrict_pod_templates or intents.deployment is None:
        return None
    template = intents.deployment["spec"]["template"]
    problems = template_problems(template, account=identity_name(snapshot.name))
    if snapshot.spec.pod_template_spec is None or not problems:
        return None
    message = f"podTemplateSpec asks for what this installation does not allow: {'; '.join(problems[:10])}"
    return Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.POD_TEMPLATE_RESTRICTED, message)


def _intents(snapshot: Snapshot, referenced: Referenced, made: Draft) -> tuple[Verdict, Verdict | None, Intents]:
    if made.problems:
        return Verdict(T.VALID, False, R.VALIDATION_FAILED, "; ".join(made.problems[:10])), None, Intents()
    valid = Verdict(T.VALID, True, R.VALIDATION_SUCCEEDED, "Spec validation passed")
    if snapshot.inline and not made.backends and snapshot.dialect is Dialect.TOOLHIVE:
        message = "static mode requires at least one backend with valid transport"
        return valid, Verdict(T.CONFIG_PUBLISHED, False, R.NO_USABLE_BACKENDS, message), Intents()
    if made.too_large:
        return valid, Verdict(T.CONFIG_PUBLISHED, False, R.CONFIG_TOO_LARGE, made.too_large), Intents()
    if made.written is None:
        return valid, Verdict(T.CONFIG_PUBLISHED, False, R.CONFIG_INVALID, sentences(made.inexpressible)), Intents()
    written = made.written
    volumes, mounts = pod_volumes(snapshot, referenced, made.backends)
    maps = [source for _, source, _ in referenced.ca_volumes]
    intents = Intents(
        identity=tuple(desired_identity(snapshot, made.backends, referenced_secrets(made.env), maps)),
        config_map=desired_config_map(snapshot, written.data, written.checksum),
        deployment=desired_deployment(snapshot, made.config, made.env, volumes, mounts, written.checksum),
        service=desired_service(snapshot),
        disruption_budget=desired_disruption_budget(snapshot),
    )
    reason = R.CONFIG_COMPRESSED if written.packed else R.CONFIG_WRITTEN
    message = f"the configuration holds {len(made.backends)} backends" if snapshot.inline else "the gateway watches"
    return valid, Verdict(T.CONFIG_PUBLISHED, True, reason, message), intents


def _health(snapshot: Snapshot, verdicts: list[Verdict]) -> Health:
    # A configuration that cannot be replaced leaves a running gateway running.
    for verdict in verdicts:
        standing = verdict.type is T.CONFIG_PUBLISHED and snapshot.config_exists
        if not verdict.ok and not standing:
            return blocked_health(verdict)
    return compute_health(snapshot.pods, reported_states(_status(snapshot)))


def _advice(snapshot: Snapshot, base: VmcpConfig) -> Iterator[Condition]:
    type_ = str(T.SESSION_STORAGE_WARNING)
    replicas = snapshot.spec.replicas
    if replicas is None or replicas <= 1:
        reason = str(R.SESSION_STORAGE_NOT_APPLICABLE)
        yield Condition(type_, "False", reason, "a single replica needs no shared session store")
    elif snapshot.dialect is Dialect.NATIVE and session_storage(snapshot, base) is not None:
        message = f"{replicas} replicas: sessions in Redis are not supported by this gateway yet"
        yield Condition(type_, "True", str(R.SESSION_STORAGE_MISSING), message)
    elif session_storage(snapshot, base) is not None:
        yield Condition(type_, "False", str(R.SESSION_STORAGE_CONFIGURED), "replicas share sessions through Redis")
    else:
        message = f"{replicas} replicas without sessionStorage.provider redis: a session lives in one pod only"
        yield Condition(type_, "True", str(R.SESSION_STORAGE_MISSING), message)
    if snapshot.unknown_dialect:
        message = f'unknown dialect "{snapshot.unknown_dialect}"; using {snapshot.dialect}. Known: native, toolhive'
        yield Condition(str(T.DIALECT_VALIDATED), "False", str(R.UNKNOWN_DIALECT), message)


def _inclusion(skipped: tuple[Skipped, ...]) -> Condition:
    type_ = str(T.BACKENDS_INCLUDED)
    if skipped:
        return Condition(type_, "False", str(R.MEMBERS_SKIPPED), describe_skipped(skipped))
    return Condition(type_, "True", str(R.ALL_MEMBERS_INCLUDED), "every member of the group is a backend")


def _is_reported(snapshot: Snapshot, verdicts: list[Verdict], age: timedelta | None) -> bool:
    return (
        snapshot.dialect is Dialect.TOOLHIVE
        and all(verdict.ok for verdict in verdicts)
        and snapshot.pods.ready > 0
        # "Not ready" was ours, said while the gateway already reported: it is ours to take back.
        and all(c.type != T.READY or c.reason != R.DEPLOYMENT_NOT_READY for c in snapshot.previous)
        and age is not None
        and age < FRESH
    )


def _status(snapshot: Snapshot) -> dict[str, Any]:
    status = snapshot.vmcp.path("status")
    return status if isinstance(status, dict) else {}


def _fields(snapshot: Snapshot, intents: Intents, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "observedGeneration": snapshot.vmcp.meta.generation,
        "url": service_url(snapshot) if not intents.empty else status.get("url"),
        "oidcConfigHash": _hash_of(snapshot.oidc_config),
        "authzConfigHash": _hash_of(snapshot.authz_config),
        "telemetryConfigHash": _hash_of(snapshot.telemetry_config),
    }


def _hash_of(config: Any) -> str | None:
    if config is None or isinstance(config, Unreadable) or config.status is None:
        return None
    value = config.status.config_hash
    return value if isinstance(value, str) and value else None
