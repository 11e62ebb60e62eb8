"""Names of what a gateway needs and of what is in it: ToolHive's, because clients and roles know them."""

from __future__ import annotations

from api.contract.identifiers import CONFIG_KEY, config_map_name
from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, ROLE, ROLE_BINDING, SECRET, SERVICE, SERVICE_ACCOUNT
from runtime import Resource

__all__ = [
    "CONFIG_DIRECTORY",
    "CONFIG_KEY",
    "MAX_NAME",
    "config_map_name",
    "disruption_budget_name",
    "generated",
    "hmac_secret_name",
    "identity_name",
    "name_problem",
    "network_policy_name",
    "service_name",
]

CONFIG_DIRECTORY = "/etc/vmcp-config"
"""Where the pod has it."""
CONTAINER = "vmcp"
"""The container that is the gateway."""
HMAC_KEY = "hmac-secret"
"""Key of the value in the session Secret."""
SCRATCH = "/tmp"  # noqa: S108  a volume of the pod's own
"""The only writable place of a read-only root."""
MAX_NAME = 58
"""Characters of a gateway's name: with its prefix the Service's name is a label of DNS, which has at most 63."""


def name_problem(name: str) -> str:
    """Say why objects could not be named after a gateway; "" when they can (RFC 1035 labels, KEP-5311)."""
    if "." in name:
        return f'the Service would be called "{service_name(name)}", and a Service has no dots in its name'
    if len(name) > MAX_NAME:
        return f'it has {len(name)} characters, and at most {MAX_NAME} fit: the Service is called "vmcp-" and this name'
    return ""


def hmac_secret_name(name: str) -> str:
    """Return the name of a gateway's session Secret."""
    return f"{name}-hmac-secret"


def service_name(name: str) -> str:
    """Return the name of a gateway's Service."""
    return f"vmcp-{name}"


def disruption_budget_name(name: str) -> str:
    """Return the name of the PodDisruptionBudget of a gateway with several replicas."""
    return service_name(name)


def network_policy_name(name: str) -> str:
    """Return the name of the NetworkPolicy of a gateway that asks for one."""
    return service_name(name)


def identity_name(name: str) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding that are made for a gateway."""
    return f"{name}-vmcp"


def generated(name: str) -> tuple[tuple[Resource, str], ...]:
    """Return kind and name of every object that a gateway of that name needs."""
    return (
        (CONFIG_MAP, config_map_name(name)),
        (SECRET, hmac_secret_name(name)),
        (DEPLOYMENT, name),
        (SERVICE, service_name(name)),
        *((kind, identity_name(name)) for kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING)),
    )


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of a gateway's Deployment, Service and pods."""
    return {
        "app": "virtualmcpserver",
        "app.kubernetes.io/name": "virtualmcpserver",
        "app.kubernetes.io/instance": name,
        "toolhive": "true",
        "toolhive-name": name,
    }
