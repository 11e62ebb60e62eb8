"""Who a workload's pods are: ServiceAccount, Role and RoleBinding."""

from __future__ import annotations

from collections.abc import Sequence

from controllers.shared.workload.manifest import Json, manifest

_GROUP = "rbac.authorization.k8s.io"


def desired_identity(name: str, namespace: str, rules: Sequence[Json]) -> tuple[Json, Json, Json]:
    """Return a ServiceAccount, a Role and the RoleBinding between them, all of one name.

    No imagePullSecrets: the list is atomic, platforms add their own entry (OpenShift's dockercfg Secrets), and whoever
    applies the list takes that away again. The pods name the Secrets themselves.
    """
    account = manifest("v1", "ServiceAccount", name, namespace)
    role = manifest(f"{_GROUP}/v1", "Role", name, namespace)
    role["rules"] = list(rules)
    binding = manifest(f"{_GROUP}/v1", "RoleBinding", name, namespace)
    binding["roleRef"] = {"apiGroup": _GROUP, "kind": "Role", "name": name}
    binding["subjects"] = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    return account, role, binding


def rule(group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()) -> Json:
    """Return one rule of a Role, for the named objects only where there are names."""
    found: Json = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return found | ({"resourceNames": list(names)} if names else {})
