"""What a workload's pods may connect to and who may connect to them: a NetworkPolicy.

A policy sees packets after Services were resolved: the port of a Service is not the port of the pods behind it. So a
Service opens the namespace in which it is, and everything else opens its port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from controllers.shared.workload.manifest import Json, manifest

_API_SERVER_PORTS = (443, 6443, 6444, 8443, 16443)
"""On which API servers listen: k3s and RKE2 on 6444, minikube on 8443, MicroK8s on 16443."""
_DNS_PORTS = (53, 5353)
"""OpenShift's DNS pods listen on the second."""
_NODE_LOCAL_DNS = "169.254.20.10/32"
"""Of NodeLocal DNSCache: the one link-local address that pods need."""
_NAT64 = int(IPv6Network("64:ff9b::/96").network_address)


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """Where pods connect to.

    Attributes:
        port: of the URL; 0 where the namespace alone counts.
        namespace: of the Service that the host names; "" for anything else.
    """

    port: int = 0
    namespace: str = ""


def desired_network_policy(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    *,
    port: int,
    places: tuple[Destination, ...],
    never: tuple[IPv4Network | IPv6Network, ...],
) -> Json:
    """Return the NetworkPolicy of the pods that have `labels`.

    In: one port, from anywhere. Out: DNS, the API server, and `places`.

    Args:
        name: of the policy.
        namespace: of the pods.
        labels: of the pods.
        port: on which they serve.
        places: where they connect to.
        never: addresses that stay closed whatever the port, but for NodeLocal DNSCache.
    """
    anywhere = _anywhere(never)
    pods: Json = {"namespaceSelector": {}}
    dns = [{"port": number, "protocol": protocol} for number in _DNS_PORTS for protocol in ("UDP", "TCP")]
    egress: list[Json] = [
        {"to": [pods, *anywhere, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}], "ports": dns},
        {"to": anywhere, "ports": _tcp(_API_SERVER_PORTS)},
    ]
    if ports := sorted({place.port for place in places if place.port}):
        # Some network plugins take address blocks for what is outside of the cluster only.
        egress.append({"to": [pods, *anywhere], "ports": _tcp(ports)})
    if namespaces := sorted({place.namespace for place in places if place.namespace}):
        egress.append({"to": [_namespace(one) for one in namespaces]})
    body = manifest("networking.k8s.io/v1", "NetworkPolicy", name, namespace, labels)
    body["spec"] = {
        "podSelector": {"matchLabels": dict(labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": _tcp((port,))}],
        "egress": egress,
    }
    return body


def _tcp(ports: Iterable[int]) -> list[Json]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def _namespace(name: str) -> Json:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _anywhere(never: Iterable[IPv4Network | IPv6Network]) -> list[Json]:
    """Return all addresses but some, which are left out as NAT64 (RFC 6052) writes them, too."""
    four = [network for network in never if isinstance(network, IPv4Network)]
    six = [network for network in never if isinstance(network, IPv6Network)]
    six += [_translated(network) for network in four]
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [str(network) for network in four]}},
        {"ipBlock": {"cidr": "::/0", "except": [str(network) for network in six]}},
    ]


def _translated(network: IPv4Network) -> IPv6Network:
    return IPv6Network((_NAT64 + int(network.network_address), 96 + network.prefixlen))
