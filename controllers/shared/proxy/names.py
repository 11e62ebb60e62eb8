"""Names of what a proxy needs and of what is in it: those of ToolHive's MCPRemoteProxy, because clients know them."""

from __future__ import annotations

from controllers.shared.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from runtime import Resource

CONTAINER = "toolhive"
"""The container that is the proxy."""
CONFIG_DIRECTORY = "/etc/runconfig"
"""Where the pod has its configuration."""
CONFIG_KEY = "proxy.yaml"
"""Key of the configuration in the ConfigMap, and so its file name in the pod."""


def service_name(name: str) -> str:
    """Return the name of a proxy's Service."""
    return f"mcp-{name}-remote-proxy"


def account_name(name: str) -> str:
    """Return the name of the ServiceAccount that is made for a proxy."""
    return f"{name}-remote-proxy-runner"


def config_map_name(name: str) -> str:
    """Return the name of a proxy's ConfigMap."""
    return f"{name}-runconfig"


def optional(name: str) -> tuple[tuple[Resource, str], ...]:
    """Return kind and name of the objects that only some proxies have."""
    return (NETWORK_POLICY, service_name(name)), (POD_DISRUPTION_BUDGET, service_name(name))


def generated(name: str) -> tuple[tuple[Resource, str], ...]:
    """Return kind and name of every object that a proxy of that name may have."""
    return (
        (SERVICE_ACCOUNT, account_name(name)),
        (CONFIG_MAP, config_map_name(name)),
        (DEPLOYMENT, name),
        (SERVICE, service_name(name)),
        *optional(name),
    )
