"""Names of the environment variables that carry secrets, and what happens when two inputs would share one.

The names are the stock operator's: upper-cased, everything outside `[A-Z0-9_]` an underscore. That mapping is not
injective (`a-b` and `a.b` give `A_B`), so `assign_names` looks at all inputs of one Deployment together: inputs that
would share a name all get a short hash of the input; the others keep theirs. Towards this project's gateway every name
ends in a hash of what fills it as well (`assign_bound_env_names`).
"""

from __future__ import annotations

import hashlib
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

HEADER_FORWARD_ENV = "TOOLHIVE_HEADER_FORWARD_"
SECRET_ENV = "TOOLHIVE_SECRET_"  # noqa: S105  a prefix of names
OIDC_CLIENT_SECRET_ENV = "VMCP_OIDC_CLIENT_SECRET"  # noqa: S105  a name
SESSION_HMAC_ENV = "VMCP_SESSION_HMAC_SECRET"
REDIS_PASSWORD_ENV = "THV_SESSION_REDIS_PASSWORD"  # noqa: S105  a name

NAME_ENV = "VMCP_NAME"
"""Name of the VirtualMCPServer whose gateway a process is."""
NAMESPACE_ENV = "VMCP_NAMESPACE"
"""Its namespace."""

CONFIG_KEY = "config.yaml"
"""Key of the configuration in a gateway's ConfigMap, and so its file name in the pod."""

GATEWAY_PORT = 4483
"""Port on which a gateway listens and its Service is reached."""
GATEWAY_SERVICE_PORT = 4484
"""Port of `/status`, `/metrics` and `/api/backends/health` in a gateway's pod; no Service leads there."""

Item = TypeVar("Item")

_KEPT = frozenset(string.ascii_uppercase + string.digits + "_")
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def config_map_name(gateway: str) -> str:
    """Return the name of a gateway's ConfigMap."""
    return f"{gateway}-vmcp-config"


class SecretPurpose(Enum):
    """What a secret in the environment is for; the value is the prefix of its variable."""

    HEADER_FORWARD = f"{SECRET_ENV}HEADER_FORWARD_"
    """(header, owner): the value of a forwarded header."""
    TOKEN_EXCHANGE = "TOOLHIVE_TOKEN_EXCHANGE_CLIENT_SECRET_"  # noqa: S105  a prefix of names
    """(MCPExternalAuthConfig,)."""
    HEADER_INJECTION = "TOOLHIVE_HEADER_INJECTION_VALUE_"
    """(MCPExternalAuthConfig,)."""
    XAA_IDP = "TOOLHIVE_XAA_IDP_CLIENT_SECRET_"
    """(MCPExternalAuthConfig,)."""
    XAA_TARGET = "TOOLHIVE_XAA_TARGET_CLIENT_SECRET_"
    """(MCPExternalAuthConfig,)."""
    OTEL_HEADER = "TOOLHIVE_OTEL_HEADER_"
    """(header,): a header of the telemetry exporter."""
    HEADER_MANIFEST = HEADER_FORWARD_ENV
    """(owner,): the stock gateway's JSON of forwarded headers; not itself a secret."""


@dataclass(frozen=True)
class EnvInput:
    """One thing that needs an environment variable: what for, and whose."""

    purpose: SecretPurpose
    parts: tuple[str, ...]

    @property
    def natural_name(self) -> str:
        """The stock operator's name."""
        return self.purpose.value + "_".join(normalize(part) for part in self.parts)

    @property
    def digest(self) -> str:
        """A hash of the input, in characters of an environment variable."""
        text = "\0".join((self.purpose.name, *self.parts))
        return hashlib.sha256(text.encode()).hexdigest().upper()


def normalize(name: str) -> str:
    """Return the part of an environment variable that a name becomes."""
    return "".join(char if char in _KEPT else "_" for char in name.translate(_UPPER))


def assign_env_names(inputs: Iterable[EnvInput]) -> dict[EnvInput, str]:
    """Give every input of one Deployment its own variable: the stock name, or the name and a hash on a collision."""
    return assign_names(
        inputs,
        natural=lambda item: item.natural_name,
        distinct=lambda item, length: f"{item.natural_name}_{item.digest[:length]}",
    )


def assign_bound_env_names(inputs: Mapping[EnvInput, str]) -> dict[EnvInput, str]:
    """Give every input of one Deployment a variable that holds one value for good.

    A pod reads its variables when it starts and its configuration again and again, so the same name must never mean
    another value: a pod of yesterday would send yesterday's key to today's URL. With the value the name changes, and a
    pod that does not have the variable yet goes on with the backend as it stood.

    Args:
        inputs: each input, and what changes with the Secret, the key or the value that fills its variable.
    """

    def bound(item: EnvInput, length: int = 0) -> str:
        digest = hashlib.sha256(inputs[item].encode()).hexdigest().upper()[:8]
        return "_".join(filter(None, (item.natural_name, item.digest[:length], digest)))

    return assign_names(inputs, natural=bound, distinct=bound)


def colliding_inputs(inputs: Iterable[EnvInput]) -> frozenset[EnvInput]:
    """Return the inputs whose stock names collide; where the stock gateway derives the name, these must be refused."""
    distinct = set(inputs)
    counts = Counter(item.natural_name for item in distinct)
    return frozenset(item for item in distinct if counts[item.natural_name] > 1)


def secret_identifier(variable: str) -> str:
    """Return what stands in `addHeadersFromSecret` for a variable `TOOLHIVE_SECRET_<identifier>`."""
    assert variable.startswith(SECRET_ENV), variable
    return variable.removeprefix(SECRET_ENV)


def assign_names(
    inputs: Iterable[Item], *, natural: Callable[[Item], str], distinct: Callable[[Item, int], str]
) -> dict[Item, str]:
    """Name every input so that no two share a name.

    Independent of the order: an input keeps its natural name unless another input has that name, be it as its natural
    one or made distinct.

    Args:
        inputs: equal inputs count once.
        natural: the preferred name.
        distinct: a name with so many characters (8 at first) of a hash of the input.
    """
    names = {item: natural(item) for item in inputs}
    lengths = dict.fromkeys(names, 0)
    while True:
        counts = Counter(names.values())
        shared = [item for item, name in names.items() if counts[name] > 1]
        if not shared:
            return names
        for item in shared:
            lengths[item] += 8
            names[item] = distinct(item, lengths[item])
