"""A gateway's NetworkPolicy: what it opens for which URL, and what it never opens."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract import Dialect
from api.contract.hosts import always_blocked
from controllers.shared.deployed.isolation import ANNOTATION, NEVER_REACHED, destinations
from controllers.shared.workload.isolation import Destination, desired_network_policy
from controllers.virtualmcpserver.decide import decide
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import auth_config, entry, make, said

METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254", "fe80::1", "64:ff9b::a9fe:a9fe"]
ASKED = {ANNOTATION: "enabled"}


def policy(*members: Any, **fields: Any) -> dict[str, Any]:
    decision = decide(make(fields.pop("spec", None), *members, annotations=fields.pop("annotations", ASKED), **fields))
    found = decision.intents.network_policy
    assert found is not None, said(decision)
    return found


def made_for(urls: list[str]) -> dict[str, Any]:
    places = destinations(urls, "ns", "cluster.local")
    return desired_network_policy("n", "ns", {"a": "b"}, port=4483, places=places, never=NEVER_REACHED)


def opened(found: dict[str, Any], address: str, port: int, protocol: str = "TCP", *, namespace: str = "") -> bool:
    """Whether a policy lets a pod connect: to an address outside of the cluster, or to a pod of a namespace."""
    return any(
        any(_takes(peer, address, namespace) for peer in rule["to"])
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in found["spec"]["egress"]
    )


def _takes(peer: dict[str, Any], address: str, namespace: str) -> bool:
    if block := peer.get("ipBlock"):
        one = ip_address(address)
        inside = one in ip_network(block["cidr"])
        return inside and not any(one in ip_network(hole) for hole in block.get("except", ()))
    wanted = peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name", namespace)
    return bool(namespace) and wanted == namespace


@pytest.mark.parametrize("dialect", list(Dialect))
def test_no_gateway_has_a_policy_unless_it_asks_for_one(dialect: Dialect) -> None:
    for unasked in ({}, {ANNOTATION: "disabled"}):
        assert decide(make({}, entry(), annotations=unasked, dialect=dialect)).intents.network_policy is None
    assert decide(make({}, entry(), annotations=ASKED, dialect=dialect)).intents.network_policy is not None


@pytest.mark.parametrize("value", ["", "true", "Enabled", "enable", "yes "])
def test_a_misspelt_wish_is_refused_instead_of_opening_everything(value: str) -> None:
    decision = decide(make({}, entry(), annotations={ANNOTATION: value}))
    assert said(decision)["Valid"] == "False/ValidationFailed"
    assert decision.intents.empty
    (message,) = [c.message for c in decision.conditions if c.type == "Valid"]
    assert '"enabled" or "disabled"' in message


def test_the_policy_is_about_the_pods_and_lets_clients_in_at_one_port() -> None:
    decision = decide(make({}, entry(), annotations=ASKED))
    found, deployment = decision.intents.network_policy, decision.intents.deployment
    assert found is not None
    assert deployment is not None
    assert found["spec"]["podSelector"] == deployment["spec"]["selector"]
    assert found["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert found["spec"]["ingress"] == [{"ports": [{"port": 4483, "protocol": "TCP"}]}]


@pytest.mark.parametrize("source", ["inline", "discovered"])
def test_the_ports_of_members_issuers_and_token_endpoints_are_open_and_others_are_not(source: str) -> None:
    exchange = {
        "type": "tokenExchange",
        "tokenExchange": {"tokenUrl": "https://sts.example.com:9444/t", "audience": "a"},
    }
    members = (
        entry("plain"),
        entry("odd", url="https://odd.example.com:9443/mcp", auth_config="sts"),
        entry("six", url="https://[2001:db8::1]:9445/mcp"),
    )
    found = policy(
        *members, spec={"outgoingAuth": {"source": source}}, auth_configs={"sts": auth_config("sts", exchange)}
    )
    for port in (443, 9443, 9444, 9445):
        assert opened(found, "203.0.113.1", port)
        assert opened(found, "2001:db8::1", port)
    assert not opened(found, "203.0.113.1", 22)
    assert not opened(found, "203.0.113.1", 8080)


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("http://s.team.svc:80/mcp", "team"),
        ("http://s.team.svc.cluster.local/mcp", "team"),
        ("http://s.team.svc.cluster.local./mcp", "team"),
        ("http://pod-0.s.team.svc.cluster.local/mcp", "team"),
        ("http://S.TEAM:8000/mcp", "team"),
        ("http://s:8000/mcp", "ns"),
        ("redis.team.svc:6379", "team"),
    ],
)
def test_a_service_is_reached_on_whatever_port_its_pods_listen(url: str, namespace: str) -> None:
    """A policy sees the pod's port, and only the Service knows it."""
    found = made_for([url])
    assert opened(found, "10.1.2.3", 12345, namespace=namespace)
    assert not opened(found, "10.1.2.3", 12345, namespace="elsewhere")


@pytest.mark.parametrize(
    "url", ["", "nothing", "http://", "http://[::1", "http://h:99999/", "mailto:a@b", "http://a..b/"]
)
def test_what_is_no_url_opens_nothing(url: str) -> None:
    assert destinations([url], "ns", "cluster.local") == ()


def test_a_name_of_two_labels_may_be_a_service_or_a_name_of_the_internet() -> None:
    found = destinations(["https://example.com/mcp"], "ns", "cluster.local")
    assert set(found) == {Destination(port=443), Destination(namespace="com")}


@given(ports=st.sets(st.integers(1, 65535), max_size=5), port=st.integers(1, 65535))
def test_metadata_services_are_never_reached_on_any_port(ports: set[int], port: int) -> None:
    urls = [f"http://169.254.169.254:{one}/" for one in ports] + [f"https://h.example.com:{one}/" for one in ports]
    found = made_for(urls)
    for address in METADATA:
        for protocol in ("TCP", "UDP"):
            assert not any(opened(found, address, one, protocol) for one in {port, *ports, 53, 80, 443})


@given(st.ip_addresses(v=4).map(str))
def test_what_the_gateway_never_dials_its_policy_never_opens(address: str) -> None:
    found = policy(entry())
    assert opened(found, address, 443) is not always_blocked(address)


def test_dns_and_the_api_server_are_reached() -> None:
    found = policy(entry())
    for protocol in ("UDP", "TCP"):
        assert opened(found, "10.96.0.10", 53, protocol)
        assert opened(found, "10.1.1.1", 5353, protocol, namespace="openshift-dns")
        assert opened(found, "169.254.20.10", 53, protocol), "NodeLocal DNSCache"
    assert opened(found, "10.0.0.1", 6443)
