"""Which VirtualMCPServer this process serves, and whether it can ask an API server about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api.contract.identifiers import NAME_ENV, NAMESPACE_ENV

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where a pod has its ServiceAccount's token, unless it was told to have none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A VirtualMCPServer."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def read_identity(environ: Mapping[str, str], token: Path = TOKEN) -> Identity | None:
    """Return whose gateway this is; None where no API server can be asked.

    `~/.kube/config` does not count: a gateway that somebody starts at a desk must not ask whatever cluster that
    person worked with last.

    Args:
        environ: Of the process: `VMCP_NAME` and `VMCP_NAMESPACE`, and `KUBECONFIG` outside of a pod.
        token: Of the pod's ServiceAccount.
    """
    name, namespace = environ.get(NAME_ENV, ""), environ.get(NAMESPACE_ENV, "")
    if not name or not namespace:
        return None
    in_pod = bool(environ.get("KUBERNETES_SERVICE_HOST")) and token.exists()
    return Identity(namespace, name) if environ.get("KUBECONFIG") or in_pod else None
