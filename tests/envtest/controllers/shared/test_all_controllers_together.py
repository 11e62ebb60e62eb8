"""All controllers in one manager share informers, indexes and facts."""

from __future__ import annotations

from controllers.shared.hashkey import NAME
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.envtest.controllers.kit import Cluster, certificate, header


async def test_entries_and_endpoints_settle_with_every_controller_running(
    admin: Kube, namespace: str, control_plane: Handle, start_operator
) -> None:
    await start_operator()
    cluster = Cluster(admin, namespace, control_plane)
    await cluster.group()
    await cluster.auth()
    await cluster.secret("s", k="1")
    await cluster.config_map(**{"ca.crt": certificate()})
    shared = {
        "externalAuthConfigRef": {"name": "a"},
        "headerForward": {"addHeadersFromSecret": [header("X-A", "s", "k")]},
        "caBundleRef": {"configMapRef": {"name": "c", "key": "ca.crt"}},
    }
    await cluster.entry("e", **shared)
    await cluster.endpoint("d", **shared)
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.until("MCPRemoteEndpoint", "d", phase="Ready")
    # The manager's own key for hashes is a Secret, too.
    gets = [event["objectRef"] for event in cluster.requests() if event["verb"] == "get"]
    reads = [target["resource"] for target in gets if target["name"] != NAME]
    assert sorted(reads) == ["configmaps", "secrets"], "each is read once, for both kinds"
    assert await cluster.status_writes_at_rest("mcpserverentries") == ["e"]
    assert await cluster.status_writes_at_rest("mcpremoteendpoints") == ["d"]
