"""What is an MCPExternalAuthConfig's own: who refers to it, and how it is judged; the rest is every config kind's."""

from __future__ import annotations

from api.conditions import MCPExternalAuthConfigCondition
from api.v1beta1 import MCPExternalAuthConfig
from controllers.mcpexternalauthconfig.decide import judge
from controllers.options import OperatorOptions
from controllers.shared import configkind
from controllers.shared.references import AUTH_CONFIG_USERS, AUTH_CONFIGS, auth_configs_of
from controllers.shared.resources import AUTH_CONFIG
from runtime import Manager

NAME = "mcpexternalauthconfig"
USERS = configkind.Users(AUTH_CONFIG_USERS, AUTH_CONFIGS, auth_configs_of)
KIND = configkind.ConfigKind(
    resource=AUTH_CONFIG,
    model=MCPExternalAuthConfig,
    finalizer="mcpexternalauthconfig.toolhive.stacklok.dev/finalizer",
    users=USERS,
    types=tuple(MCPExternalAuthConfigCondition),
    judge=judge,
)
RULES = configkind.rules(AUTH_CONFIG, USERS)


def setup(manager: Manager, options: OperatorOptions) -> None:  # noqa: ARG001  the signature of every setup
    """Run the controller of auth configs."""
    configkind.run(manager, NAME, KIND)
