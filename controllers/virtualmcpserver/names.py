"""Names of what a gateway needs and of what is in it: ToolHive's, because clients and roles know them."""

from __future__ import annotations

from api.contract.identifiers import CONFIG_KEY, config_map_name
from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, ROLE, ROLE_BINDING, SECRET, SERVICE, SERVICE_ACCOUNT
from controllers.shared.workload.names import workload_labels
from runtime import Resource

__all__ = [
    "CONFIG_DIRECTORY",
    "CONFIG_KEY",
    "config_map_name",
    "disruption_budget_name",
    "generated",
    "hmac_secret_name",
    "identity_name",
    "network_policy_name",
    "service_name",
]

CONFIG_DIRECTORY = "/etc/vmcp-config"
"""Where the pod has it."""
CONTAINER = "vmcp"
"""The container that is the gateway."""
HMAC_KEY = "hmac-secret"
"""Key of the value in the session Secret."""


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
    return workload_labels("virtualmcpserver", name)
