"""Choice -> GatewayObjects: everything that is generated for a gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from api.common.model import GROUP as API_GROUP
from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import Dialect
from api.contract.identifiers import GATEWAY_PORT
from api.contract.reports import reporter_lease_name
from controllers.shared.deployed.isolation import NEVER_REACHED
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.identity import desired_identity, rule
from controllers.shared.workload.isolation import desired_network_policy
from controllers.shared.workload.manifest import Json, manifest
from controllers.shared.workload.network import desired_disruption_budget, desired_service
from controllers.shared.workload.restrictions import template_problems
from controllers.virtualmcpserver.choose import Choice, Publication
from controllers.virtualmcpserver.deployment import desired_deployment
from controllers.virtualmcpserver.document import ConfigDocument
from controllers.virtualmcpserver.names import (
    HMAC_KEY,
    config_map_name,
    disruption_budget_name,
    hmac_secret_name,
    identity_name,
    labels_of,
    network_policy_name,
    service_name,
)
from controllers.virtualmcpserver.parts import Subject

CONTENT_CHECKSUM = "toolhive.stacklok.dev/content-checksum"

STOCK_KINDS = (
    "mcpgroups",
    "mcpservers",
    "mcpremoteproxies",
    "mcpserverentries",
    "mcpexternalauthconfigs",
    "mcptoolconfigs",
)
WATCHED_KINDS = (*STOCK_KINDS, "mcpremoteendpoints")


@dataclass(frozen=True)
class Intents:
    """The wanted objects; empty while a check stops everything."""

    identity: tuple[Json, ...] = ()
    config_map: Json | None = None
    deployment: Json | None = None
    service: Json | None = None
    disruption_budget: Json | None = None
    network_policy: Json | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is to be written."""
        return self.deployment is None


@dataclass(frozen=True)
class GatewayObjects:
    """What shall be there.

    Attributes:
        intents: the wanted objects.
        refusal: why the pods that were made of a user's template are not allowed; nothing is written then.
    """

    intents: Intents = Intents()
    refusal: Verdict | None = None


def render(choice: Choice) -> GatewayObjects:
    """Make every object, or none while a check stops everything."""
    if choice.publication is None:
        return GatewayObjects()
    subject, publication = choice.subject, choice.publication
    deployment = desired_deployment(subject, publication)
    refusal = _judge_pod(subject, deployment["spec"]["template"])
    if refusal is not None:
        return GatewayObjects(refusal=refusal)
    return GatewayObjects(
        Intents(
            identity=_identity(subject, publication),
            config_map=_config_map(subject.name, subject.namespace, publication.written),
            deployment=deployment,
            service=desired_service(
                service_name(subject.name),
                subject.namespace,
                labels_of(subject.name),
                GATEWAY_PORT,
                type_=subject.service_type,
                session_affinity=subject.session_affinity,
            ),
            disruption_budget=_disruption_budget(subject),
            network_policy=_network_policy(subject, publication),
        )
    )


def _judge_pod(subject: Subject, template: Json) -> Verdict | None:
    """Judge what podTemplateSpec makes of the very template that would be written: directives mean what is there."""
    if not subject.pods.restricted or subject.pods.template is None:
        return None
    problems = template_problems(template, account=identity_name(subject.name))
    if not problems:
        return None
    message = f"podTemplateSpec asks for more than this installation allows: {'; '.join(problems[:10])}"
    return Verdict(T.POD_TEMPLATE_SPEC_VALID, False, R.POD_TEMPLATE_RESTRICTED, message)


def _config_map(name: str, namespace: str, written: ConfigDocument) -> Json:
    labels = {
        "toolhive.stacklok.io/component": "vmcp-config",
        "toolhive.stacklok.io/virtual-mcp-server": name,
        "toolhive.stacklok.io/managed-by": "toolhive-operator",
    }
    body = manifest("v1", "ConfigMap", config_map_name(name), namespace, labels)
    body["metadata"]["annotations"] = {CONTENT_CHECKSUM: written.checksum}
    return body | dict(written.data)


def _disruption_budget(subject: Subject) -> Json | None:
    """Return the budget of several replicas; the stock operator makes none."""
    replicas = subject.pods.replicas
    if subject.dialect is not Dialect.NATIVE or replicas is None or replicas <= 1:
        return None
    return desired_disruption_budget(disruption_budget_name(subject.name), subject.namespace, labels_of(subject.name))


def _network_policy(subject: Subject, publication: Publication) -> Json | None:
    if publication.destinations is None:
        return None
    labels, name = labels_of(subject.name), network_policy_name(subject.name)
    return desired_network_policy(
        name,
        subject.namespace,
        labels,
        port=GATEWAY_PORT,
        places=publication.destinations,
        never=NEVER_REACHED,
    )


def desired_hmac_secret(name: str, namespace: str, value: bytes) -> Json:
    """Return the session Secret around 32 random bytes; made once, never changed."""
    labels = {
        "app.kubernetes.io/name": "virtualmcpserver",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "session-security",
        "app.kubernetes.io/managed-by": "toolhive-operator",
    }
    body = manifest("v1", "Secret", hmac_secret_name(name), namespace, labels)
    body["metadata"]["annotations"] = {
        "toolhive.stacklok.dev/purpose": "hmac-secret-for-session-token-binding",
    }
    # The stock gateway expects the text of base64 as the value, so it is encoded twice.
    text = base64.b64encode(value)
    return body | {"type": "Opaque", "data": {HMAC_KEY: base64.b64encode(text).decode()}}


def _identity(subject: Subject, publication: Publication) -> tuple[Json, ...]:
    """Return ServiceAccount, Role and RoleBinding; nothing when the user names a ServiceAccount."""
    if subject.pods.account:
        return ()
    rules = role_rules(subject, list(publication.secrets), publication.config_maps)
    return desired_identity(identity_name(subject.name), subject.namespace, rules)


def role_rules(subject: Subject, secrets: list[str], bundles: Iterable[str]) -> list[Json]:
    """Return what a gateway may do.

    Args:
        subject: the gateway.
        secrets: those that it reads by name, sorted.
        bundles: ConfigMaps with certificates that it reads by name.
    """
    name, inline = subject.name, subject.inline
    if subject.dialect is Dialect.TOOLHIVE:
        rules = [
            rule(API_GROUP, ["virtualmcpservers"], ["get"]),
            rule(API_GROUP, ["virtualmcpservers/status"], ["update", "patch"]),
        ]
        if inline:
            return rules
        return [
            rule("", ["configmaps", "secrets"], ["get", "list", "watch"]),
            rule(API_GROUP, list(STOCK_KINDS), ["get", "list", "watch"]),
            *rules,
        ]
    maps = [config_map_name(name), *(sorted(bundles) if not inline else [])]
    rules = [
        rule(API_GROUP, ["virtualmcpservers"], ["get"] if inline else ["get", "watch"], [name]),
        rule(API_GROUP, ["virtualmcpservers/status"], ["patch"], [name]),
        rule("", ["configmaps"], ["get", "watch"], maps),
        rule("coordination.k8s.io", ["leases"], ["create"]),
        rule("coordination.k8s.io", ["leases"], ["get", "update"], [reporter_lease_name(name)]),
    ]
    if not inline:
        rules.append(rule(API_GROUP, list(WATCHED_KINDS), ["get", "list", "watch"]))
        # Without names the rule would grant all Secrets, so no rule at all where there are none.
        rules += [rule("", ["secrets"], ["get", "watch"], secrets)] if secrets else []
    return rules
