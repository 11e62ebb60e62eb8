"""A member is published whole, from one generation, or as it stood; an empty URL takes nothing away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from api.common.model import GROUP as API_GROUP
from api.contract import StaticBackend, VmcpConfig
from runtime.observe.metrics import REGISTRY
from tests.envtest.controllers.kit import header, wait_for_the_next_second
from tests.envtest.controllers.virtualmcpserver.conftest import Gateways

SERVER = {"image": "example.com/mcp", "transport": "streamable-http", "groupRef": {"name": "g"}}


def _names(config: VmcpConfig) -> list[str]:
    return [backend.name for backend in config.backends]


async def _watch(cluster: Gateways, seen: list[StaticBackend]) -> None:
    """Note every version of the backend that is written."""
    async for _, found in cluster.admin.watch("v1", "ConfigMap", namespace=cluster.namespace):
        if found["metadata"]["name"] == "v-vmcp-config":
            seen += cluster.parse(found).backends


async def test_an_endpoint_that_changes_is_never_published_with_parts_of_two_generations(cluster: Gateways) -> None:
    """Its old host must not get its new credentials, nor the other way round."""
    await cluster.group()
    await cluster.secret(**{f"key-{number}": "value" for number in range(7)})

    def forward(number: int) -> dict[str, object]:
        return {
            "addPlaintextHeaders": {f"X-Plain-{number}": "v"},
            "addHeadersFromSecret": [header(f"X-Secret-{number}", "s", f"key-{number}")],
        }

    await cluster.endpoint(remoteUrl="https://host-0.example.com/mcp", headerForward=forward(0))
    await cluster.gateway()
    await cluster.config(until=lambda config: _names(config) == ["d"])
    seen: list[StaticBackend] = []
    watching = asyncio.create_task(_watch(cluster, seen))
    for number in range(1, 7):
        url = f"https://host-{number}.example.com/mcp"
        plain = {f"X-Plain-{number - 1}": None, f"X-Plain-{number}": "v"}
        headers = forward(number) | {"addPlaintextHeaders": plain}
        await cluster.patch("MCPRemoteEndpoint", "d", {"spec": {"remoteUrl": url, "headerForward": headers}})
        await cluster.config(until=lambda config, url=url: [one.url for one in config.backends] == [url])  # type: ignore[misc]
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert len(seen) >= 6
    for backend in seen:
        assert backend.header_forward is not None
        number = backend.url.removeprefix("https://host-")[0]
        assert list(backend.header_forward.add_plaintext_headers) == [f"X-Plain-{number}"]
        assert list(backend.header_forward.add_headers_from_secret) == [f"X-Secret-{number}"]


async def test_a_server_whose_url_becomes_empty_stays_in_the_configuration(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.create("MCPServer", "s", SERVER)
    await cluster.gateway()
    await cluster.patch(
        "MCPServer", "s", {"status": {"phase": "Ready", "url": "http://s.ns.svc:8080/mcp"}}, status=True
    )
    await cluster.config(until=lambda config: _names(config) == ["s"])
    await cluster.patch("MCPServer", "s", {"status": {"phase": "Pending", "url": ""}}, status=True)
    await cluster.entry("later")
    config = await cluster.config(until=lambda config: "later" in _names(config))
    assert _names(config) == ["later", "s"]
    assert config.backends[1].url == "http://s.ns.svc:8080/mcp"
    await cluster.delete("MCPServer", "s")
    await cluster.config(until=lambda config: _names(config) == ["later"])


async def test_a_server_in_another_group_owns_its_name_too(cluster: Gateways) -> None:
    """A proxy of the same name, which nobody here judges, does not get the name while the older server is there."""
    await cluster.group()
    await cluster.create("MCPServer", "same", SERVER | {"groupRef": {"name": "other"}})
    await cluster.entry("later")
    await cluster.gateway()
    await cluster.config(until=lambda config: _names(config) == ["later"])
    spec = {"remoteUrl": "https://r.example.com", "groupRef": {"name": "g"}}
    await wait_for_the_next_second(cluster, "MCPServer", "same")
    await cluster.create("MCPRemoteProxy", "same", spec)
    await cluster.patch(
        "MCPRemoteProxy", "same", {"status": {"phase": "Ready", "url": "http://p.ns.svc/mcp"}}, status=True
    )
    await cluster.until("VirtualMCPServer", "v", BackendsIncluded="False/MembersSkipped")
    await cluster.delete("MCPServer", "same")
    await cluster.config(until=lambda config: _names(config) == ["later", "same"])


async def test_an_auth_config_counts_as_it_stood_until_its_new_spec_is_judged(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    """The verdict is written here as its controller would write it."""
    cluster = await start(only=("mcpgroup", "mcpserverentry", "virtualmcpserver"))
    await cluster.group()

    async def judge(generation: int) -> None:
        verdict = {"type": "Valid", "status": "True", "reason": "ValidationSucceeded", "message": "fine"}
        verdict |= {"observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        await cluster.patch("MCPExternalAuthConfig", "a", {"status": {"conditions": [verdict]}}, status=True)

    def token_url(config: VmcpConfig) -> str:
        strategy = config.outgoing_auth.backends.get("e") if config.outgoing_auth is not None else None
        return strategy.token_exchange.token_url if strategy is not None and strategy.token_exchange is not None else ""

    old, new = "https://old.example.com/token", "https://new.example.com/token"
    await cluster.auth("a", type="tokenExchange", tokenExchange={"tokenUrl": old, "audience": "a"})
    await judge(1)
    await cluster.entry(externalAuthConfigRef={"name": "a"})
    await cluster.gateway()
    await cluster.config(until=lambda config: token_url(config) == old)
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"tokenExchange": {"tokenUrl": new}}})
    await cluster.entry("later")
    config = await cluster.config(until=lambda config: "later" in _names(config))
    assert token_url(config) == old
    await judge(2)
    await cluster.config(until=lambda config: token_url(config) == new)


def _looks() -> float:
    """Return how often gateways were looked at."""
    name, controller = "controller_runtime_reconcile_total", "virtualmcpserver"
    results = ("success", "requeue", "requeue_after", "error")
    found = (REGISTRY.get_sample_value(name, {"controller": controller, "result": result}) for result in results)
    return sum(value or 0.0 for value in found)


async def test_a_member_that_changed_is_published_whole_without_waiting_until_its_status_is_stored(
    cluster: Gateways,
) -> None:
    """The verdict is about the version that is published; storing it only tells others."""
    await cluster.group()
    plain = {"headerForward": {"addPlaintextHeaders": {"X-For": "old"}}}
    await cluster.entry(remoteUrl="https://old.example.com/mcp", **plain)
    await cluster.gateway()
    await cluster.config(until=lambda config: _names(config) == ["e"])
    await cluster.come_to_rest()
    seen: list[StaticBackend] = []
    watching = asyncio.create_task(_watch(cluster, seen))
    async with cluster.broken_webhook("mcpserverentries/status", API_GROUP, "v1beta1"):
        changed = {"remoteUrl": "https://new.example.com/mcp"} | {
            "headerForward": {"addPlaintextHeaders": {"X-For": "new"}}
        }
        await cluster.patch("MCPServerEntry", "e", {"spec": changed})
        await cluster.config(until=lambda config: config.backends[0].url == "https://new.example.com/mcp")
        found = await cluster.get("MCPServerEntry", "e")
        assert found["status"]["observedGeneration"] < found["metadata"]["generation"]
    await cluster.until("MCPServerEntry", "e", Ready="True/EntryReady")
    await cluster.come_to_rest()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    of_old, of_new = ("https://old.example.com/mcp", "old"), ("https://new.example.com/mcp", "new")
    for backend in seen:
        assert backend.header_forward is not None
        assert (backend.url, backend.header_forward.add_plaintext_headers["X-For"]) in (of_old, of_new)


async def test_a_member_that_changed_is_judged_once_more_if_it_failed(cluster: Gateways) -> None:
    """A verdict that a gateway went by is not the last word: the member goes, and comes back, with the next one."""
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    await cluster.config(until=lambda config: _names(config) == ["e"])
    await cluster.patch("MCPServerEntry", "e", {"spec": {"remoteUrl": "https://169.254.169.254/mcp"}})
    await cluster.config(until=lambda config: _names(config) == [])
    await cluster.until("VirtualMCPServer", "v", BackendsIncluded="False/MembersSkipped")
    await cluster.patch("MCPServerEntry", "e", {"spec": {"remoteUrl": "https://new.example.com/mcp"}})
    await cluster.config(until=lambda config: _names(config) == ["e"])
    await cluster.until("VirtualMCPServer", "v", BackendsIncluded="True/AllMembersIncluded")


async def test_a_change_of_one_member_costs_its_gateway_one_look(cluster: Gateways) -> None:
    """Neither the status of the member, which was told before, nor the gateway's own ConfigMap starts another one."""
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    await cluster.config(until=lambda config: _names(config) == ["e"])
    for number in range(2):
        await cluster.come_to_rest()
        before, url = _looks(), f"https://new-{number}.example.com/mcp"
        await cluster.patch("MCPServerEntry", "e", {"spec": {"remoteUrl": url}})
        await cluster.config(until=lambda config, url=url: config.backends[0].url == url)  # type: ignore[misc]
        await cluster.come_to_rest()
        assert _looks() - before == 1
