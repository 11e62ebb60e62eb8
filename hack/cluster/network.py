"""The host's part of the network, and how all of it is undone.

The node's address is one end of a veth pair: kubelet refuses loopback, and pods could not reach it. Services without
endpoints are routed there, too, so that nothing leaves by the default route; pods reach pods, node and Services and
nothing else. What was there before is written down first, so that `down` gives it back, also after a crash.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from hack.cluster.layout import (
    BRIDGE,
    NODE_IP,
    NODE_LINK,
    NODE_NETWORK,
    PEER_LINK,
    POD_NETWORK,
    SERVICE_NETWORK,
    TABLE,
    Layout,
)

_SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
)
"""What kubelet and kube-proxy set."""
_RULES = f"""
table inet {TABLE} {{
  chain pods {{
    type filter hook forward priority -10; policy accept;
    ip saddr {POD_NETWORK} ip daddr {{ {POD_NETWORK}, {NODE_NETWORK}, {SERVICE_NETWORK} }} accept
    ip daddr {POD_NETWORK} ip saddr {{ {POD_NETWORK}, {NODE_NETWORK}, {SERVICE_NETWORK} }} accept
    ip saddr {POD_NETWORK} reject
    ip daddr {POD_NETWORK} drop
  }}
}}
"""
_PROXY_TABLES = ("ip kube-proxy", "ip6 kube-proxy")


def up(layout: Layout) -> None:
    """Make the node's address and the rules; what exists is left."""
    saved = _saved(layout)
    if not saved.exists():
        saved.write_text(_try("sysctl", "-e", *_SYSCTLS))
    if not Path("/sys/class/net", NODE_LINK).exists():
        _call("ip", "link", "add", NODE_LINK, "type", "veth", "peer", "name", PEER_LINK)
    _call("ip", "address", "replace", f"{NODE_IP}/24", "dev", NODE_LINK)
    for link in (NODE_LINK, PEER_LINK):
        _call("ip", "link", "set", link, "up")
    _call("ip", "route", "replace", SERVICE_NETWORK, "dev", NODE_LINK, "src", NODE_IP)
    _call("sysctl", "-qw", "net.ipv4.ip_forward=1")
    _try("nft", "delete", "table", "inet", TABLE)
    _call("nft", "-f", "-", text=_RULES)


def down(layout: Layout) -> None:
    """Undo `up` and what kube-proxy and the CNI plugins made; what is not there is fine."""
    for table in (f"inet {TABLE}", *_PROXY_TABLES):
        _try("nft", "delete", "table", *table.split())
    for link in (BRIDGE, NODE_LINK):
        _try("ip", "link", "delete", link)
    saved = _saved(layout)
    if saved.exists():
        _try("sysctl", "-q", "-p", str(saved))
        saved.unlink()


def _saved(layout: Layout) -> Path:
    return layout.state / "sysctl.before"


def _call(*command: str, text: str | None = None) -> None:
    subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def _try(*command: str) -> str:
    done = subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout
