"""The objects beside the Deployment: ConfigMap, Service, identity, disruption budget, session Secret."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from api.common.model import GROUP as API_GROUP
from api.contract import Dialect, dump_config, pack_config
from api.contract.config import VmcpConfig
from api.contract.identifiers import GATEWAY_PORT
from api.contract.secrets import decode_secret, session_secret
from controllers.virtualmcpserver.deployment import labels_of
from controllers.virtualmcpserver.environment import HMAC_KEY, Json
from controllers.virtualmcpserver.names import (
    CONFIG_KEY,
    config_map_name,
    disruption_budget_name,
    hmac_secret_name,
    identity_name,
    service_name,
)
from controllers.virtualmcpserver.snapshot import Snapshot
from membership import Member, has_ca

CONTENT_CHECKSUM = "toolhive.stacklok.dev/content-checksum"
MAX_PLAIN = 900 * 1024
"""Bytes of YAML beyond which the native dialect packs; a ConfigMap holds 1 MiB with everything around it."""
MAX_PACKED = 700 * 1024
"""Bytes of gzip: base64 makes four thirds of them."""


_PASSING = re.compile(rb"^ +workload_status: .*\n", re.MULTILINE)


class ConfigTooLargeError(ValueError):
    """The configuration does not fit into a ConfigMap.

    Attributes:
        excess: Bytes of YAML that are too many, as far as can be told.
    """

    def __init__(self, message: str, excess: int) -> None:
        super().__init__(message)
        self.excess = excess


def render_config(config: VmcpConfig, dialect: Dialect) -> tuple[dict[str, Any], str, bool]:
    """Return the data of the ConfigMap, its checksum, and whether it is packed.

    Packed or not, it stands under `CONFIG_KEY`: that is the one file that the pod's command line names, and the
    gateway tells by the content which of the two it is.

    Raises:
        ConfigTooLargeError: it does not fit.
        ConfigErrors: the dialect cannot say it.
    """
    document = dump_config(config, dialect)
    checksum = content_checksum(document)
    if len(document) <= MAX_PLAIN:
        return {"data": {CONFIG_KEY: document.decode()}}, checksum, False
    if dialect is Dialect.TOOLHIVE:
        raise ConfigTooLargeError(
            f"{len(document) >> 10} KiB of YAML; the stock gateway reads at most {MAX_PLAIN >> 10}",
            excess=len(document) - MAX_PLAIN,
        )
    packed = pack_config(document)
    if len(packed) > MAX_PACKED:
        excess = len(document) - len(document) * MAX_PACKED // len(packed)
        raise ConfigTooLargeError(f"{len(document) >> 10} KiB of YAML, {len(packed) >> 10} KiB packed", excess)
    return {"binaryData": {CONFIG_KEY: base64.b64encode(packed).decode()}}, checksum, True


def content_checksum(document: bytes) -> str:
    """Return the hash that rolls the stock gateway's pods.

    A member's passing phase stands in the metadata but changes nothing that the gateway does: it does not count.
    """
    return hashlib.sha256(_PASSING.sub(b"", document)).hexdigest()


def desired_config_map(snapshot: Snapshot, data: dict[str, Any], checksum: str) -> Json:
    """Return the ConfigMap."""
    labels = {
        "toolhive.stacklok.io/component": "vmcp-config",
        "toolhive.stacklok.io/virtual-mcp-server": snapshot.name,
        "toolhive.stacklok.io/managed-by": "toolhive-operator",
    }
    body = _body(snapshot, "v1", "ConfigMap", config_map_name(snapshot.name), labels)
    body["metadata"]["annotations"] = {CONTENT_CHECKSUM: checksum}
    return body | data


def desired_service(snapshot: Snapshot) -> Json:
    """Return the Service."""
    labels = labels_of(snapshot.name)
    body = _body(snapshot, "v1", "Service", service_name(snapshot.name), labels)
    body["spec"] = {
        "type": snapshot.spec.service_type,
        "sessionAffinity": snapshot.spec.session_affinity,
        "selector": labels,
        "ports": [{"name": "http", "port": GATEWAY_PORT, "targetPort": GATEWAY_PORT, "protocol": "TCP"}],
    }
    return body


def desired_disruption_budget(snapshot: Snapshot) -> Json | None:
    """Return the PodDisruptionBudget that drains a gateway's nodes one pod after the other; None for a single replica.

    The stock operator makes none. Pods that are not ready anyway do not hold up a drain.
    """
    replicas = snapshot.spec.replicas
    if snapshot.dialect is not Dialect.NATIVE or replicas is None or replicas <= 1:
        return None
    labels = labels_of(snapshot.name)
    body = _body(snapshot, "policy/v1", "PodDisruptionBudget", disruption_budget_name(snapshot.name), labels)
    body["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": labels},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return body


def service_url(snapshot: Snapshot) -> str:
    """Return the gateway's URL inside the cluster."""
    domain = snapshot.options.cluster_domain
    return f"http://{service_name(snapshot.name)}.{snapshot.namespace}.svc.{domain}:{GATEWAY_PORT}"


def desired_hmac_secret(snapshot: Snapshot, value: bytes) -> Json:
    """Return the session Secret around 32 random bytes; made once, never changed."""
    labels = {
        "app.kubernetes.io/name": "virtualmcpserver",
        "app.kubernetes.io/instance": snapshot.name,
        "app.kubernetes.io/component": "session-security",
        "app.kubernetes.io/managed-by": "toolhive-operator",
    }
    body = _body(snapshot, "v1", "Secret", hmac_secret_name(snapshot.name), labels)
    body["metadata"]["annotations"] = {
        "toolhive.stacklok.dev/purpose": "hmac-secret-for-session-token-binding",
    }
    # The stock gateway expects the text of base64 as the value, so it is encoded twice.
    text = base64.b64encode(value)
    return body | {"type": "Opaque", "data": {HMAC_KEY: base64.b64encode(text).decode()}}


def hmac_problem(value: bytes | None) -> str:
    """Say what is wrong with the value of an existing session Secret; "" when it is good."""
    if value is None:
        return f'it has no key "{HMAC_KEY}"'
    _, problem = session_secret(decode_secret(value))
    return f"its value {problem}" if problem else ""


def desired_identity(
    snapshot: Snapshot, backends: tuple[Member, ...], secrets: list[str], config_maps: list[str]
) -> list[Json]:
    """Return ServiceAccount, Role and RoleBinding; nothing when the user names a ServiceAccount."""
    if snapshot.spec.service_account:
        return []
    name = identity_name(snapshot.name)
    # No imagePullSecrets: the list is atomic, platforms add their own entry (OpenShift's dockercfg Secrets), and
    # whoever applies the list takes that away again. The pods name the Secrets themselves.
    account = _body(snapshot, "v1", "ServiceAccount", name, {})
    role = _body(snapshot, "rbac.authorization.k8s.io/v1", "Role", name, {})
    role["rules"] = role_rules(snapshot, backends, secrets, config_maps)
    binding = _body(snapshot, "rbac.authorization.k8s.io/v1", "RoleBinding", name, {})
    binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding["subjects"] = [{"kind": "ServiceAccount", "name": name, "namespace": snapshot.namespace}]
    return [account, role, binding]


STOCK_KINDS = (
    "mcpgroups",
    "mcpservers",
    "mcpremoteproxies",
    "mcpserverentries",
    "mcpexternalauthconfigs",
    "mcptoolconfigs",
)
WATCHED_KINDS = (*STOCK_KINDS, "mcpremoteendpoints")


def role_rules(
    snapshot: Snapshot, backends: tuple[Member, ...], secrets: list[str], config_maps: list[str]
) -> list[Json]:
    """Return what a gateway may do."""
    if snapshot.dialect is Dialect.TOOLHIVE:
        rules = [
            _rule(API_GROUP, ["virtualmcpservers"], ["get"]),
            _rule(API_GROUP, ["virtualmcpservers/status"], ["update", "patch"]),
        ]
        if snapshot.inline:
            return rules
        return [
            _rule("", ["configmaps", "secrets"], ["get", "list", "watch"]),
            _rule(API_GROUP, list(STOCK_KINDS), ["get", "list", "watch"]),
            *rules,
        ]
    own = [snapshot.name]
    lease = [f"{snapshot.name}-vmcp-reporter"]
    bundles = sorted({member.ca_config_map for member in backends if has_ca(member)} | set(config_maps))
    maps = [config_map_name(snapshot.name), *(bundles if not snapshot.inline else [])]
    rules = [
        _rule(API_GROUP, ["virtualmcpservers"], ["get"], own),
        _rule(API_GROUP, ["virtualmcpservers/status"], ["patch"], own),
        _rule("", ["configmaps"], ["get", "watch"], maps),
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update", "patch"], lease),
    ]
    if not snapshot.inline:
        rules.append(_rule(API_GROUP, list(WATCHED_KINDS), ["get", "list", "watch"]))
        # Without names the rule would grant all Secrets, so no rule at all where there are none.
        rules += [_rule("", ["secrets"], ["get", "watch"], secrets)] if secrets else []
    return rules


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Json:
    rule: Json = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return rule | ({"resourceNames": names} if names else {})


def _body(snapshot: Snapshot, version: str, kind: str, name: str, labels: dict[str, str]) -> Json:
    metadata: Json = {"name": name, "namespace": snapshot.namespace}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
