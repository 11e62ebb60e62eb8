"""Certificates, kubeconfigs and configuration files of the daemons."""

from __future__ import annotations

import json
from typing import Any

import yaml

from hack.cluster.layout import (
    API_PORT,
    API_SERVICE_IP,
    BRIDGE,
    CLUSTER_DOMAIN,
    DNS_SERVICE_IP,
    KUBELET_PORT,
    NODE,
    NODE_IP,
    NODE_NETWORK,
    PAUSE_IMAGE,
    POD_NETWORK,
    Layout,
)
from hack.cluster.programs import SHIM
from hack.cluster.requirements import CNI_DIRECTORY
from hack.controlplane import kubeconfig
from hack.controlplane.pki import Authority, KeyPair, service_account_key

_USERS = {
    "admin": ("admin", ["system:masters"]),
    "kube-controller-manager": ("system:kube-controller-manager", []),
    "kube-scheduler": ("system:kube-scheduler", []),
    "kube-proxy": ("system:kube-proxy", []),
    "kubelet": (f"system:node:{NODE}", ["system:nodes"]),
}


def write_pki(layout: Layout) -> None:
    """Make the authority, certificates and kubeconfigs; those of a cluster that was up before are kept."""
    pki = layout.pki
    if layout.kubeconfig.exists():
        return
    authority = Authority.create(pki)
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    hosts = (NODE_IP, "127.0.0.1", API_SERVICE_IP, *names, f"kubernetes.default.svc.{CLUSTER_DOMAIN}")
    authority.server("kube-apiserver", hosts).write(pki, "apiserver")
    authority.server("kubelet", (NODE_IP, NODE)).write(pki, "kubelet-server")
    authority.client("kube-apiserver-kubelet-client", ["system:masters"]).write(pki, "apiserver-kubelet")
    service_account_key(pki)
    for name in sorted(
        _USERS, key=lambda name: name == "admin"
    ):  # the administrator's last: it says that all are there
        user, groups = _USERS[name]
        _kubeconfig(layout, name, authority, authority.client(user, groups))


def _kubeconfig(layout: Layout, name: str, authority: Authority, client: KeyPair) -> None:
    kubeconfig.write(
        layout.state / f"{name}.kubeconfig",
        server=f"https://{NODE_IP}:{API_PORT}",
        ca=authority.certificate_file.read_bytes(),
        user=name,
        client=client,
    )


def write_configuration(layout: Layout, runc: str) -> None:
    """Write the daemons' files."""
    for directory in (layout.state / "cni", layout.run, layout.logs):
        directory.mkdir(parents=True, exist_ok=True)
    (layout.state / "resolv.conf").write_text("")  # pods ask the cluster's DNS server, and that asks nobody
    (layout.state / "cni" / "10-pods.conflist").write_text(json.dumps(_cni(layout)))
    (layout.state / "containerd.toml").write_text(_containerd(layout, runc))
    (layout.state / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout)))
    (layout.state / "kube-proxy.yaml").write_text(yaml.safe_dump(_proxy(layout)))


def _cni(layout: Layout) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.state / "cni-addresses"),
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "hairpinMode": True, "mtu": 1400}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge | {"ipam": addresses}]}


def _containerd(layout: Layout, runc: str) -> str:
    return f"""\
version = 3
root = "{layout.state}/containerd"
state = "{layout.run}/containerd"
[grpc]
  address = "{layout.containerd_socket}"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, in a container for example, the -998 of a sandbox makes runc fail with
  # "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{CNI_DIRECTORY}"]
    conf_dir = "{layout.state}/cni"
    max_conf_num = 1
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{layout.bin}/{SHIM}"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "{runc}"
        Root = "{layout.run}/runc"
"""


def _kubelet(layout: Layout) -> dict[str, Any]:
    state = layout.state
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 20248,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(state / "resolv.conf"),
        "podLogsDir": str(layout.logs / "pods"),
        "volumePluginDir": str(state / "volume-plugins"),
        "registerNode": True,
        "makeIPTablesUtilChains": False,
        # Images cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "2%",
            "imagefs.available": "2%",
            "nodefs.inodesFree": "1%",
        },
        # syncFrequency stays at its default of a minute: what users wait for a mounted ConfigMap is seen here, too.
    }


def _proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "bindAddress": NODE_IP,
        "healthzBindAddress": "127.0.0.1:20256",
        "metricsBindAddress": "127.0.0.1:20249",
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(layout.state / "kube-proxy.kubeconfig")},
        "clusterCIDR": POD_NETWORK,
        "detectLocalMode": "ClusterCIDR",
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": [NODE_NETWORK],
    }
