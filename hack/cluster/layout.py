"""Where the cluster keeps its files, and which addresses it uses: everything that two modules must agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

NODE = "mcp-node"
NODE_IP = "10.99.0.1"
NODE_NETWORK = "10.99.0.0/24"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"

API_PORT, ETCD_PORT, ETCD_PEER_PORT, KUBELET_PORT = 16443, 12379, 12380, 20250
BRIDGE, NODE_LINK, PEER_LINK = "mcpbr0", "mcpnode0", "mcpnode1"
TABLE = "mcp-cluster"
"""The nftables table that keeps pods on this machine."""

PAUSE_IMAGE, DNS_IMAGE = "localhost/pause:local", "localhost/coredns:local"
OPERATOR_IMAGE, GATEWAY_IMAGE = "localhost/mcp-operator:e2e", "localhost/mcp-vmcp:e2e"
SDK_IMAGE = "localhost/mcp-sdk:e2e"
"""The official SDK, for servers and clients in pods."""
DOCKERFILES = {
    OPERATOR_IMAGE: "Dockerfile",
    GATEWAY_IMAGE: "Dockerfile.vmcp",
    SDK_IMAGE: "tests/cluster/Dockerfile.sdk",
}
"""By image: what it is built from."""


@dataclass(frozen=True)
class Layout:
    """The directories of the cluster.

    Attributes:
        root: all of them are in here.
    """

    root: Path

    @property
    def bin(self) -> Path:
        """Programs; kept by `down`."""
        return self.root / "bin"

    @property
    def images(self) -> Path:
        """Image archives and the layers that they are made of; kept by `down`."""
        return self.root / "images"

    @property
    def state(self) -> Path:
        """Certificates, configuration, data of etcd, containerd and kubelet; removed by `down`."""
        return self.root / "state"

    @property
    def run(self) -> Path:
        """Process ids, sockets; removed by `down`."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Logs of the daemons, of the last run only."""
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "admin.kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Of the container runtime."""
        return self.run / "containerd.sock"


def default_layout() -> Layout:
    """The cluster of this user: there is one, for its addresses are fixed."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Layout(Path(base).expanduser() / "mcp-operator" / "cluster")
