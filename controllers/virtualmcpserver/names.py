"""Names of the objects that a gateway needs: ToolHive's, because clients and roles know them."""

from __future__ import annotations

from controllers.shared.resources import CONFIG_MAP, DEPLOYMENT, ROLE, ROLE_BINDING, SECRET, SERVICE, SERVICE_ACCOUNT
from runtime import Resource


def config_map_name(name: str) -> str:
    """Return the name of a gateway's ConfigMap."""
    return f"{name}-vmcp-config"


def hmac_secret_name(name: str) -> str:
    """Return the name of a gateway's session Secret."""
    return f"{name}-hmac-secret"


def service_name(name: str) -> str:
    """Return the name of a gateway's Service."""
    return f"vmcp-{name}"


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
