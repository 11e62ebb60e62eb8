"""A Secret that cannot be read for a passing reason keeps the last verdict; the next successful read decides.

The passing reason is a role that does not allow to read Secrets: the server's own 403, taken back while the operator
runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from hack.controlplane.handle import Handle
from hack.controlplane.pytest_plugin import MakeUser
from hack.controlplane.rest import Kube, KubeError
from hack.gen_rbac import ROLE
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import Cluster, certificate, conditions_of, encoded, header
from tests.envtest.controllers.lifecycles import shows
from tests.support.operator import launch, trying_again_within

RBAC = "rbac.authorization.k8s.io/v1"
SEEING: list[dict[str, Any]] = yaml.safe_load(ROLE.read_text(encoding="utf-8"))["rules"]
"""The operator's own role."""
BLIND: list[dict[str, Any]] = [
    {**rule, "resources": [resource], "verbs": [verb for verb in rule["verbs"] if verb != "get"]}
    if resource in ("secrets", "configmaps")
    else {**rule, "resources": [resource]}
    for rule in SEEING
    for resource in rule["resources"]
]
"""The same, but no Secret and no ConfigMap may be read; to watch their metadata is allowed."""


class Sight:
    """The operator's role, which the test changes."""

    def __init__(self, cluster: Cluster, user: Kube, role: str) -> None:
        self.cluster, self.user, self.role = cluster, user, role

    async def allow(self, rules: list[dict[str, Any]]) -> None:
        """Change the role and wait until the server's authorizer has heard of it."""
        namespace = self.cluster.namespace
        await self.cluster.admin.patch(RBAC, "Role", self.role, {"rules": rules}, namespace=namespace)
        wanted = 404 if rules is SEEING else 403
        async with asyncio.timeout(10):
            while await self._status(namespace) != wanted:
                pass

    async def _status(self, namespace: str) -> int:
        with pytest.raises(KubeError) as refused:
            await self.user.get("v1", "Secret", "nothing-of-this-name", namespace=namespace)
        return refused.value.status


@pytest.fixture
async def sight(admin: Kube, namespace: str, control_plane: Handle, make_user: MakeUser) -> AsyncIterator[Sight]:
    """The operator tries again within two seconds here, not within a minute."""
    kubeconfig = await make_user("blind", rules=BLIND, namespace=namespace)
    operator = await launch(
        await load_endpoint(str(kubeconfig)),
        namespace,
        only=["mcpgroup", "mcpserverentry", "mcpremoteendpoint"],
        settings=trying_again_within(2.0),
    )
    (role,) = await admin.list(RBAC, "Role", namespace=namespace)
    async with Kube(kubeconfig) as user:
        yield Sight(Cluster(admin, namespace, control_plane), user, role["metadata"]["name"])
    await operator.stop()


@shows(
    "MCPServerEntry",
    *(f"{t}=Unknown/ReadFailed" for t in ("Valid", "Ready", "CABundleRefValidated", "HeaderSecretRefsValidated")),
)
@shows("MCPRemoteEndpoint", *(f"{t}=Unknown/ReadFailed" for t in ("Ready", "CABundleValid", "HeaderSecretsValid")))
async def test_what_may_not_be_read_is_said_and_with_sight_it_is_judged(sight: Sight) -> None:
    cluster = sight.cluster
    await cluster.group()
    await cluster.secret("s", k="1")
    await cluster.config_map("c", **{"ca.crt": certificate()})
    forward = {"addHeadersFromSecret": [header("X-A", "s", "k")]}
    bundle = {"configMapRef": {"name": "c", "key": "ca.crt"}}
    await cluster.entry(headerForward=forward, caBundleRef=bundle)
    await cluster.endpoint(headerForward=forward, caBundleRef=bundle)
    unknown = "Unknown/ReadFailed"
    entry = await cluster.until(
        "MCPServerEntry",
        "e",
        phase="Pending",
        Valid=unknown,
        HeaderSecretRefsValidated=unknown,
        CABundleRefValidated=unknown,
        GroupRefValidated="True/GroupRefIsValid",
    )
    why = "could not be read: the API server answered 403 Forbidden; trying again"
    assert conditions_of(entry)["HeaderSecretRefsValidated"][1] == f'Secret "s" {why}'
    assert conditions_of(entry)["CABundleRefValidated"][1] == f"ConfigMap 'c' of the CA bundle {why}"
    endpoint = await cluster.until(
        "MCPRemoteEndpoint", "d", phase="Pending", Ready=unknown, HeaderSecretsValid=unknown, CABundleValid=unknown
    )
    assert "url" not in endpoint["status"]
    await sight.allow(SEEING)
    await cluster.until("MCPServerEntry", "e", phase="Valid", Valid="True/ConfigValid", timeout=20.0)
    await cluster.until("MCPRemoteEndpoint", "d", phase="Ready", Ready="True/EndpointReady", timeout=20.0)


async def test_a_verdict_stays_while_the_secret_cannot_be_read_and_changes_when_it_can(sight: Sight) -> None:
    cluster = sight.cluster
    await sight.allow(SEEING)
    await cluster.group()
    await cluster.secret("s", k="1")
    await cluster.entry(headerForward={"addHeadersFromSecret": [header("X-A", "s", "k")]})
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await sight.allow(BLIND)
    await cluster.patch("Secret", "s", {"data": {"k": None} | encoded(other="2")})
    await cluster.patch("MCPServerEntry", "e", {"status": {"phase": "Failed"}}, status=True)
    await cluster.until("MCPServerEntry", "e", phase="Valid", HeaderSecretRefsValidated="True/HeaderSecretsValid")
    await sight.allow(SEEING)
    await cluster.until(
        "MCPServerEntry", "e", phase="Failed", HeaderSecretRefsValidated="False/HeaderSecretNotFound", timeout=20.0
    )


@shows("MCPRemoteEndpoint", "AuthzConfigValid=Unknown/ReadFailed")
async def test_a_proxy_whose_policies_may_not_be_read_is_not_deployed(sight: Sight) -> None:
    cluster = sight.cluster
    await cluster.group()
    await cluster.create("MCPOIDCConfig", "o", {"type": "inline", "inline": {"issuer": "https://login.example.com"}})
    document = {"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}
    await cluster.config_map("policies", **{"authz.json": json.dumps(document)})
    own = {"type": "configMap", "configMap": {"name": "policies"}}
    proxy = {"oidcConfigRef": {"name": "o", "audience": "a"}, "authzConfig": own}
    await cluster.endpoint("p", type="proxy", proxyConfig=proxy)
    await cluster.until("MCPRemoteEndpoint", "p", phase="Pending", AuthzConfigValid="Unknown/ReadFailed")
    assert await cluster.admin.find("apps/v1", "Deployment", "p", namespace=cluster.namespace) is None
    await sight.allow(SEEING)
    await cluster.until("MCPRemoteEndpoint", "p", AuthzConfigValid="True/AuthzConfigValid", timeout=20.0)
