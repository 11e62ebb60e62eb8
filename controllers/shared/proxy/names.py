"""Names of what a proxy needs and of what is in it: those of ToolHive's MCPRemoteProxy, because clients know them."""

from __future__ import annotations

from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, SERVICE, SERVICE_ACCOUNT
from runtime import Resource

CONTAINER = "toolhive"
"""The container that is the proxy."""
CONFIG_DIRECTORY = "/etc/runconfig"
"""Where the pod has its configuration."""
CONFIG_KEY = "proxy.yaml"
"""Key of the configuration in the ConfigMap, and so its file name in the pod."""
SCRATCH = "/tmp"  # noqa: S108  a volume of the pod's own
"""The only writable place of a read-only root."""
MAX_NAME = 46
"""Characters of a proxy's name: what is around it in the Service's name leaves so many of a label's 63."""


def name_problem(name: str) -> str:
    """Say why objects could not be named after a proxy; "" when they can (RFC 1035 labels)."""
    if "." in name:
        return f'the Service would be called "{service_name(name)}", and a Service has no dots in its name'
    if len(name) > MAX_NAME:
        return (
            f'the name has {len(name)} characters, and at most {MAX_NAME} fit: the Service is "{service_name("NAME")}"'
        )
    return ""


def service_name(name: str) -> str:
    """Return the name of a proxy's Service."""
    return f"mcp-{name}-remote-proxy"


def account_name(name: str) -> str:
    """Return the name of the ServiceAccount that is made for a proxy."""
    return f"{name}-remote-proxy-runner"


def config_map_name(name: str) -> str:
    """Return the name of a proxy's ConfigMap."""
    return f"{name}-runconfig"


def generated(name: str) -> tuple[tuple[Resource, str], ...]:
    """Return kind and name of every object that a proxy of that name may have."""
    return (
        (SERVICE_ACCOUNT, account_name(name)),
        (CONFIG_MAP, config_map_name(name)),
        (DEPLOYMENT, name),
        (SERVICE, service_name(name)),
    )


def labels_of(app: str, name: str) -> dict[str, str]:
    """Return the labels of a proxy's Deployment, Service and pods; `app` tells the kinds apart."""
    return {
        "app": app,
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/instance": name,
        "toolhive": "true",
        "toolhive-name": name,
    }
