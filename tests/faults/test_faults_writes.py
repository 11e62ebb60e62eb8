"""Faults around writes: refused, stale, contested, fenced. Controllers run as in production, through the manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from runtime import Builder, ElectionOptions, Key, Manager, ManagerOptions, Record, Result
from runtime.cache import Cache
from runtime.client import Client
from runtime.election.elector import LeaseLostError
from runtime.testing.faultproxy import FaultProxy
from runtime.testing.faults import cut, delayed, held, page, status, stream, watches, writes
from runtime.transport import Endpoint, Transport, TransportSettings, WriteFencedError, load_endpoint
from runtime.wire import ConflictError, ServerError, TooManyRequestsError, TransportError
from tests.support.eventually import eventually
from tests.support.fault_rig import CONFIG_MAP, WIDGET

BODY = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}


def config_map(namespace: str, name: str) -> dict[str, Any]:
    return {**BODY, "metadata": {"name": name, "namespace": namespace}}


@asynccontextmanager
async def proxied(plane: Handle, *, patience: float = 20.0) -> AsyncIterator[tuple[FaultProxy, Client]]:
    endpoint = await load_endpoint(str(plane.kubeconfig))
    async with FaultProxy(endpoint) as proxy:
        transport = Transport(Endpoint(url=proxy.url), settings=TransportSettings(call_timeout=patience, attempts=4))
        yield proxy, Client(transport, None, field_manager="faults")
        await transport.close()


async def test_a_refused_write_waits_as_told_and_happens_once(control_plane: Handle, namespace: str) -> None:
    async with proxied(control_plane) as (proxy, client):
        proxy.on(writes("configmaps"), status(429, "TooManyRequests", retry_after=1), times=2)
        await client.create(CONFIG_MAP, config_map(namespace, "a"))
        times = [exchange.time for exchange in proxy.exchanges]
        assert len(times) == 3
        assert all(1.0 <= later - earlier < 5.0 for earlier, later in pairwise(times))


async def test_a_server_that_refuses_for_ever_is_asked_a_bounded_number_of_times(
    control_plane: Handle, namespace: str
) -> None:
    async with proxied(control_plane) as (proxy, client):
        proxy.on(writes("configmaps"), status(429, "TooManyRequests", retry_after=0))
        with pytest.raises(TooManyRequestsError):
            await client.create(CONFIG_MAP, config_map(namespace, "a"))
        assert len(proxy.exchanges) == 4


async def test_a_write_that_may_have_happened_is_not_repeated(control_plane: Handle, namespace: str) -> None:
    never = asyncio.Event()
    async with proxied(control_plane, patience=1.0) as (proxy, client):
        for plan, error in (
            (cut(), TransportError),
            (page(502), ServerError),
            (status(500, "InternalError"), ServerError),
            (held(never), TransportError),
        ):
            proxy.clear()
            proxy.exchanges.clear()
            proxy.on(writes("configmaps"), plan)
            with pytest.raises(error):
                await client.create(CONFIG_MAP, config_map(namespace, "a"))
            assert len(proxy.exchanges) == 1


async def test_a_read_survives_what_passes(control_plane: Handle, namespace: str) -> None:
    async with proxied(control_plane) as (proxy, client):
        await client.create(CONFIG_MAP, config_map(namespace, "a"))
        proxy.on(lambda e: e.method == "GET", cut(), times=1)
        proxy.on(lambda e: e.method == "GET", page(502), times=1)
        record = await client.get_live(CONFIG_MAP, Key(namespace, "a"))
        assert record.path("data.k") == "v"
        assert sum(1 for exchange in proxy.exchanges if exchange.method == "GET") == 3


async def test_the_fence_stops_writes_and_retries_before_a_byte_leaves(control_plane: Handle, namespace: str) -> None:
    async with proxied(control_plane) as (proxy, _):
        open_ = True
        transport = Transport(Endpoint(url=proxy.url), may_write=lambda: open_)
        client = Client(transport, None, field_manager="faults")
        await client.create(CONFIG_MAP, config_map(namespace, "a"))

        def close() -> bool:
            nonlocal open_
            open_ = False
            return True

        # The lease is lost while the server makes us wait: the retry must not go out.
        proxy.on(lambda e: writes("configmaps")(e) and close(), status(429, "TooManyRequests", retry_after=0), times=1)
        with pytest.raises(WriteFencedError):
            await client.delete(CONFIG_MAP, Key(namespace, "a"))
        assert [exchange.method for exchange in proxy.exchanges] == ["POST", "DELETE"]
        assert (await client.get_live(CONFIG_MAP, Key(namespace, "a"))).key.name == "a"
        await transport.close()


class OneChild:
    """Creates a child with a generated name when it sees none: a stale read shows as a second child."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.runs = 0
        self.errors: list[Exception] = []

    async def reconcile(self, request: Key) -> Result | None:
        self.runs += 1
        parent = self.manager.reader.get(WIDGET, request)
        if parent is None:
            return None
        wanted = str(parent.path("spec.n"))
        children = self.manager.reader.by_index(CONFIG_MAP, "data.parent", request.name, namespace=request.namespace)
        try:
            if not children:
                meta = {"generateName": "child-", "namespace": request.namespace}
                data = {"parent": request.name, "n": wanted}
                await self.manager.client.create(CONFIG_MAP, {"metadata": meta, "data": data})
            elif children[0].path("data.n") != wanted:
                version = children[0].meta.resource_version
                patch = {"data": {"n": wanted}}
                await self.manager.client.merge_patch(CONFIG_MAP, children[0].key, patch, resource_version=version)
        except Exception as error:
            self.errors.append(error)
            raise
        return None


@asynccontextmanager
async def managed(
    endpoint: Endpoint, namespace: str, make: Callable[[Manager], Any], **options: Any
) -> AsyncIterator[tuple[Manager, Any, asyncio.Task[None]]]:
    """Run a manager with one controller for widgets that owns config maps by index."""
    manager = Manager(endpoint, ManagerOptions(namespaces=(namespace,), graceful_timeout=5.0, **options))
    reconciler = make(manager)
    manager.informer(CONFIG_MAP, indexes={"data.parent": None})

    def parent(record: Record) -> list[Key]:
        return [Key(record.key.namespace, record.path("data.parent"))] if record.path("data.parent") else []

    name = f"faults-{namespace[-8:]}-{id(manager)}"
    Builder(manager, name).for_(WIDGET).watches(CONFIG_MAP, parent).complete(reconciler)
    task = asyncio.create_task(manager.run())
    try:
        yield manager, reconciler, task
    finally:
        manager.stop()
        await asyncio.gather(task, return_exceptions=True)


async def test_with_a_watch_two_seconds_late_no_child_is_made_twice_and_nothing_conflicts(
    control_plane: Handle, namespace: str
) -> None:
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    direct = Client(Transport(endpoint), None, field_manager="other")
    async with FaultProxy(endpoint) as proxy:
        proxy.on(watches("configmaps"), stream(delayed(2.0)))
        async with managed(Endpoint(url=proxy.url), namespace, OneChild) as (manager, reconciler, _):
            await asyncio.wait_for(manager.elected.wait(), 30)
            await direct.create(WIDGET, {"metadata": {"name": "p", "namespace": namespace}, "spec": {"n": 0}})
            for number in range(1, 6):
                seen = reconciler.runs
                await direct.merge_patch(WIDGET, Key(namespace, "p"), {"spec": {"n": number}})
                await eventually(lambda seen=seen: reconciler.runs > seen, "the change was reconciled")

            async def settled() -> bool:
                children = await direct.list_live(CONFIG_MAP, namespace=namespace)
                return [child.path("data.n") for child in children if child.path("data.parent") == "p"] == ["5"]

            await eventually(settled, "exactly one child, in its last state")
            cached = manager.cache.informer(CONFIG_MAP)
            await eventually(lambda: cached.stats().pending_writes == 0, "the watch has caught up")
            assert await settled()
            assert reconciler.errors == []
            assert proxy.count(lambda e: writes("configmaps")(e) and e.status == 409) == 0


class Count:
    """Writes the observed number into the status, with optimistic lock."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.runs = 0

    async def reconcile(self, request: Key) -> Result | None:
        self.runs += 1
        widget = self.manager.reader.get(WIDGET, request)
        if widget is None or widget.path("status.seen") == widget.path("spec.n"):
            return None
        patch = {"status": {"seen": widget.path("spec.n")}}
        await self.manager.client.merge_patch(
            WIDGET, request, patch, resource_version=widget.meta.resource_version, subresource="status"
        )
        return None


async def test_a_storm_of_conflicts_converges_with_a_bounded_number_of_writes(
    control_plane: Handle, namespace: str
) -> None:
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    direct = Client(Transport(endpoint), None, field_manager="other")
    changes = 60
    async with (
        FaultProxy(endpoint) as proxy,
        managed(Endpoint(url=proxy.url), namespace, Count) as (manager, counter, _),
    ):
        await asyncio.wait_for(manager.elected.wait(), 30)
        await direct.create(WIDGET, {"metadata": {"name": "w", "namespace": namespace}, "spec": {"n": 0}})
        for number in range(1, changes + 1):
            await direct.merge_patch(WIDGET, Key(namespace, "w"), {"spec": {"n": number}})

        async def settled() -> bool:
            return (await direct.get_live(WIDGET, Key(namespace, "w"))).path("status.seen") == changes

        await eventually(settled, "the status has the last number")
        assert proxy.count(writes("widgets")) <= 2 * changes + 2
        assert counter.runs <= 4 * changes


@pytest.mark.parametrize("fault", ["hangs", "500"])
async def test_a_lease_that_cannot_be_renewed_ends_the_manager_before_it_expires(
    control_plane: Handle, namespace: str, fault: str
) -> None:
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    election = ElectionOptions("faults", namespace, lease_duration=5.0, renew_deadline=3.5, retry_period=0.5)
    clock = asyncio.get_running_loop().time
    async with FaultProxy(endpoint) as proxy:
        through = Endpoint(url=proxy.url)
        async with managed(through, namespace, Count, election=election) as (first, _, first_task):
            exits: list[tuple[float, int]] = []
            first.elector._exit = lambda code: exits.append((clock(), code))  # noqa: SLF001  or this very process would end
            await asyncio.wait_for(first.elected.wait(), 30)
            async with managed(endpoint, namespace, Count, election=election) as (second, _, _task):
                renewals = [e for e in proxy.exchanges if writes("leases")(e)]
                plan = held(asyncio.Event()) if fault == "hangs" else status(500, "InternalError")
                proxy.on(writes("leases"), plan)
                last = max(exchange.time for exchange in renewals)
                with pytest.raises(LeaseLostError):
                    await asyncio.wait_for(asyncio.shield(first_task), 30)
                assert not second.elected.is_set()
                with pytest.raises(WriteFencedError):
                    await first.client.create(CONFIG_MAP, config_map(namespace, "late"))
                await eventually(lambda: exits, "the first process ends itself")
                when, code = exits[0]
                assert (code, when - last < 5.0) == (1, True)
                await asyncio.wait_for(second.elected.wait(), 30)
                await second.client.create(CONFIG_MAP, config_map(namespace, "second"))


async def test_a_conflict_is_a_conflict_and_not_an_existing_object(control_plane: Handle, namespace: str) -> None:
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    transport = Transport(endpoint)
    cache = Cache(transport)
    client = Client(transport, cache, field_manager="faults")
    made = await client.create(CONFIG_MAP, config_map(namespace, "a"))
    await client.merge_patch(CONFIG_MAP, made.key, {"data": {"k": "w"}})
    with pytest.raises(ConflictError) as error:
        await client.merge_patch(
            CONFIG_MAP, made.key, {"data": {"k": "x"}}, resource_version=made.meta.resource_version
        )
    assert error.value.reason == "Conflict"
    with pytest.raises(ConflictError):
        await client.delete(CONFIG_MAP, made.key, uid="00000000-0000-0000-0000-000000000000")
    await transport.close()
