"""What a proxy has as a gateway has it: reasons of its pods, gathered rollouts, a budget, a NetworkPolicy."""

from __future__ import annotations

from collections.abc import Callable

from controllers.shared.deployed.isolation import ANNOTATION
from tests.envtest.controllers.kit import URL, Object, conditions_of
from tests.envtest.controllers.mcpremoteendpoint.conftest import ISSUER, KIND, ProxyCluster

WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "gone"'}}
CRASHED = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}


async def pod(cluster: ProxyCluster, name: str, state: Object, app: str = "mcpremoteendpoint") -> None:
    """Write a pod of the proxy "p" that is not ready, and its status, as ReplicaSet controller and kubelet would."""
    spec = {"containers": [{"name": "toolhive", "image": "gone"}]}
    labels = {"app": app, "toolhive-name": "p"}
    await cluster.create("Pod", name, spec, api="v1", metadata={"labels": labels})
    container = {"name": "toolhive", "image": "gone", "imageID": "", "ready": False, "restartCount": 3} | state
    await pod_status(cluster, name, {"phase": "Pending", "containerStatuses": [container]})


async def pod_status(cluster: ProxyCluster, name: str, status: Object) -> None:
    await cluster.admin.patch("v1", "Pod", name, {"status": status}, namespace=cluster.namespace, subresource="status")


async def until_said(cluster: ProxyCluster, holds: Callable[[str], bool], kind: str = KIND) -> Object:
    def of(found: Object | None) -> str:
        return conditions_of(found or {}).get("DeploymentReady", ("", ""))[1]

    found = await cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        kind,
        "p",
        namespace=cluster.namespace,
        until=lambda found: holds(of(found)),
        timeout=20,
    )
    assert found is not None
    return found


async def test_a_proxy_says_why_its_pods_do_not_start_until_they_do(proxies: ProxyCluster) -> None:
    proxies.rollouts.clear()
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Pending", ObjectsApplied="True/ObjectsApplied")
    await pod(proxies, "one", {"state": WAITING})
    found = await until_said(proxies, lambda said: "the image gone cannot be pulled (ImagePull)" in said)
    assert conditions_of(found)["Ready"][0] == "False/DeploymentNotReady"
    assert "Stalled" not in conditions_of(found), "another node, or a registry that comes back, may mend it"
    last = {"terminated": {"exitCode": 3, "reason": "Error", "message": "proxy: remote.url is not a URL"}}
    crashed = {"name": "toolhive", "image": "gone", "imageID": "", "ready": False, "restartCount": 3}
    await pod_status(proxies, "one", {"containerStatuses": [crashed | {"state": CRASHED, "lastState": last}]})
    await until_said(proxies, lambda said: "keeps crashing (CrashLoop: exit code 3): proxy: remote.url" in said)
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    await pod_status(proxies, "one", {"containerStatuses": [], "conditions": [unscheduled]})
    await until_said(proxies, lambda said: "no node accepts the pod: 0/3 nodes" in said)
    await pod_status(proxies, "one", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    await proxies.finish()
    await proxies.ready()
    await until_said(proxies, lambda said: said == "1 of 1 pods run the current template")


async def test_changes_of_what_a_proxy_refers_to_are_gathered_and_its_own_spec_waits_for_nothing(
    proxies: ProxyCluster,
) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    before = (await proxies.deployment())["metadata"]["generation"]
    for number in range(10):
        await proxies.patch("MCPOIDCConfig", "o", {"spec": {"inline": {"issuer": f"{ISSUER}/{number}"}}})
    last = f"{ISSUER}/9"
    await proxies.document(until=lambda found: found.incoming_auth.oidc.issuer == last)
    await proxies.deployment(until=lambda found: found["metadata"]["generation"] > before)
    await proxies.come_to_rest(pause=2.5)
    after = (await proxies.deployment())["metadata"]["generation"]
    assert after - before == 1, "ten changes are one rollout"
    await proxies.ready()
    await proxies.patch(KIND, "p", {"spec": {"remoteUrl": f"{URL}/other"}})
    await proxies.deployment(until=lambda found: found["metadata"]["generation"] > after)
    await proxies.ready()


async def test_several_replicas_have_a_disruption_budget_that_is_repaired_and_goes_with_them(
    proxies: ProxyCluster,
) -> None:
    api, name = "policy/v1", "mcp-p-remote-proxy"
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy={"replicas": 2})
    found = await proxies.object(api, "PodDisruptionBudget", name)
    assert found["spec"]["maxUnavailable"] == 1
    assert found["metadata"]["ownerReferences"][0]["name"] == "p"
    await proxies.ready()
    await proxies.admin.delete(api, "PodDisruptionBudget", name, namespace=proxies.namespace)
    await proxies.object(
        api, "PodDisruptionBudget", name, lambda one: one["metadata"]["uid"] != found["metadata"]["uid"]
    )
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"replicas": 1}}})
    await gone(proxies, api, "PodDisruptionBudget", name)


async def gone(cluster: ProxyCluster, api: str, kind: str, name: str) -> None:
    await cluster.admin.wait_for(
        api, kind, name, namespace=cluster.namespace, until=lambda found: found is None, timeout=20
    )


def ports(policy: Object) -> set[int]:
    return {one["port"] for rule in policy["spec"]["egress"] for one in rule.get("ports", ())}


async def test_a_proxy_that_asks_for_a_network_policy_has_one_that_follows_its_urls(proxies: ProxyCluster) -> None:
    api, name = "networking.k8s.io/v1", "mcp-p-remote-proxy"
    await proxies.group()
    await proxies.oidc(issuer="https://login.example.com:9444")
    await proxies.secret("s", k="v")
    token_url = "https://tokens.example.com:9445/token"
    exchange = {"tokenUrl": token_url, "audience": "a", "clientId": "c", "clientSecretRef": {"name": "s", "key": "k"}}
    await proxies.auth("a", type="tokenExchange", tokenExchange=exchange)
    await proxies.proxy(remoteUrl="https://mcp.example.com:9443/mcp", externalAuthConfigRef={"name": "a"})
    await proxies.ready()
    assert await proxies.admin.find(api, "NetworkPolicy", name, namespace=proxies.namespace) is None
    await proxies.patch(KIND, "p", {"metadata": {"annotations": {ANNOTATION: "enabled"}}})
    found = await proxies.object(api, "NetworkPolicy", name)
    assert found["spec"]["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert {9443, 9444, 9445} <= ports(found)
    await proxies.patch(KIND, "p", {"spec": {"remoteUrl": "https://mcp.example.com:9555/mcp"}})
    await proxies.object(api, "NetworkPolicy", name, lambda one: 9555 in ports(one) and 9443 not in ports(one))
    await proxies.patch(KIND, "p", {"metadata": {"annotations": {ANNOTATION: "enable"}}})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyConfigInvalid")
    await proxies.object(api, "NetworkPolicy", name)  # a spelling mistake opens nothing
    await proxies.patch(KIND, "p", {"metadata": {"annotations": {ANNOTATION: None}}})
    await gone(proxies, api, "NetworkPolicy", name)
    await proxies.ready()
