"""Faults of the server itself: restarts, kinds that go and come, rotated credentials, missing permissions."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.rest import Kube
from runtime.cache import Cache
from runtime.client import Client
from runtime.testing.faultproxy import FaultProxy
from runtime.testing.faults import status, streams
from runtime.transport import Endpoint, Transport, load_endpoint
from runtime.transport.auth import TokenFile
from runtime.transport.session import TransportSettings
from runtime.transport.tls import TlsFiles
from runtime.wire import ForbiddenError, Key, Resource, TransportError
from tests.support.eventually import eventually
from tests.support.fault_rig import CONFIG_MAP, QUICK, SECRET, WIDGET, View, rig

GADGET = Resource("faults.example.com", "v1", "Gadget", "gadgets")
GADGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.faults.example.com}
spec:
  group: faults.example.com
  scope: Namespaced
  names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
CRD = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)


async def test_a_restarted_server_is_followed_again_without_a_restart_of_ours(
    make_control_plane: Callable[[Options], ControlPlane],
) -> None:
    plane = make_control_plane(Options())
    plane.handle.install_crds(Path(__file__).parents[1] / "support" / "crds")
    # A server that shuts down keeps idle watches open until they end by themselves: the watchdog ends them first.
    settings = replace(QUICK, silence=2.0)
    async with rig(plane.handle, "default", settings=settings, existing=["a", "b"]) as world:
        await world.synced()
        for round_, stop in enumerate((signal.SIGTERM, signal.SIGKILL)):
            plane.apiserver.process.signal(stop)
            await eventually(lambda: not plane.apiserver.process.running, "the server is down", within=70)
            with pytest.raises(TransportError):
                await world.client.create(WIDGET, {"metadata": {"name": "lost", "namespace": "default"}})
            await asyncio.to_thread(plane.restart, plane.apiserver)
            await world.make(f"after-{round_}")
            await world.remove("ab"[round_])
            await world.in_step()
        assert world.view.count("added", "a") == 1
        assert world.view.count("deleted", "a") == 1
        assert world.cache.problems() == []
        # A new server has no history for its watch cache to resume from: one new list each.
        assert world.proxy.count(streams("widgets")) <= 3


async def test_a_kind_in_which_nothing_happens_is_no_problem_where_etcd_notifies_of_no_progress(
    make_control_plane: Callable[[Options], ControlPlane], scale: Any
) -> None:
    plane = make_control_plane(Options(progress_notifications=False))
    plane.handle.install_crds(Path(__file__).parents[1] / "support" / "crds")
    # Bookmarks are a minute apart at best, so that the short run is silent, too; the long one has the real times.
    settings = scale(replace(QUICK, silence=0.4, fresh=3.0), replace(QUICK, silence=75.0, fresh=90.0))
    async with rig(plane.handle, "default", settings=settings, existing=["a"]) as world:
        await world.synced()
        problems: list[str] = []

        def watched() -> bool:
            problems.extend(world.cache.problems())
            return asyncio.get_running_loop().time() > end

        end = asyncio.get_running_loop().time() + scale(4.0, 240.0)
        await eventually(watched, "the time is over", within=300)
        assert problems == []
        assert sum(world.informer.stats().lists.values()) == 1
        await world.make("b")
        await world.in_step()


async def test_a_kind_that_is_deleted_and_made_again_is_followed_with_its_new_objects(
    control_plane: Handle, namespace: str, tmp_path: Path
) -> None:
    definition = tmp_path / "gadgets.yaml"
    definition.write_text(GADGETS)
    await asyncio.to_thread(control_plane.install_crds, definition)
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    transport = Transport(endpoint)
    client = Client(transport, None, field_manager="other")
    cache = Cache(transport, settings=QUICK)
    view = View()
    cache.declare(GADGET).add_handler(view)
    cache.declare(CONFIG_MAP, namespaces=[namespace], metadata_only=True)
    running = asyncio.create_task(cache.run())
    key = Key(namespace, "g")
    body = {"metadata": {"name": "g", "namespace": namespace}}
    try:
        first = await client.create(GADGET, body)
        await eventually(lambda: key in view.objects, "the object is seen")
        await client.delete(CRD, Key("", "gadgets.faults.example.com"))
        await eventually(lambda: key not in view.objects, "its deletion is told")
        await eventually(lambda: any("404" in problem for problem in cache.problems()), "the problem is named")
        await asyncio.to_thread(control_plane.install_crds, definition)
        second = await client.create(GADGET, body)
        assert first.meta.uid != second.meta.uid
        await eventually(lambda: view.objects.get(key) == second, "the new object is seen")
        assert view.contradictions == []
        assert cache.problems() == []
        assert cache.informer(CONFIG_MAP).stats().lists == {"start": 1}
    finally:
        await client.delete(CRD, Key("", "gadgets.faults.example.com"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close()


async def test_a_rotated_token_is_used_by_the_next_request(
    control_plane: Handle, namespace: str, admin: Kube, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        await admin.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        )
    await admin.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "new", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "new", "namespace": namespace}],
        }
    )
    file = tmp_path / "token"
    file.write_text(await control_plane.service_account_token(namespace, "old") + "\n")
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    tls = replace(endpoint.tls, cert_file=None, key_file=None)
    transport = Transport(Endpoint(url=endpoint.url, tls=tls, credentials=TokenFile(file)))
    client = Client(transport, None, field_manager="faults")
    body = {"metadata": {"name": "a", "namespace": namespace}}
    with pytest.raises(ForbiddenError, match=f"system:serviceaccount:{namespace}:old"):
        await client.create(CONFIG_MAP, body)
    fresh = tmp_path / "fresh"
    fresh.write_text(await control_plane.service_account_token(namespace, "new") + "\n")
    fresh.replace(file)
    # The binding may need a moment; the identity is new at once.
    denied: list[str] = []

    async def created() -> bool:
        try:
            await client.create(CONFIG_MAP, body)
        except ForbiddenError as error:
            denied.append(str(error))
            return False
        return True

    await eventually(created, "the new token is accepted")
    assert not [text for text in denied if f"system:serviceaccount:{namespace}:old" in text]
    await transport.close()


async def test_a_401_makes_the_token_be_read_again_and_the_request_succeed(
    control_plane: Handle, namespace: str, tmp_path: Path
) -> None:
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    file = tmp_path / "token"
    file.write_text("stale")

    class Late(TokenFile):
        """Notices the new file only when asked by a 401: the check of the time stamp is too coarse."""

        async def header(self) -> str | None:
            return self._value or await super().header()

    async with FaultProxy(endpoint) as proxy:
        proxy.on(lambda e: e.headers.get("Authorization") == "Bearer stale", status(401, "Unauthorized"))
        credentials = Late(file)
        await credentials.header()
        file.write_text("fresh")
        proxy.on(lambda e: e.headers.get("Authorization") == "Bearer fresh", status(404, "NotFound"))
        transport = Transport(Endpoint(url=proxy.url, credentials=credentials))
        client = Client(transport, None, field_manager="faults")
        with pytest.raises(Exception, match="404"):
            await client.get_live(CONFIG_MAP, Key(namespace, "a"))
        assert [exchange.status for exchange in proxy.exchanges] == [401, 404]
        await transport.close()


async def test_a_rotated_client_certificate_is_used_by_the_next_connection(
    control_plane: Handle, namespace: str, tmp_path: Path
) -> None:
    files = {}
    for user in ("before", "after"):
        files[user] = (await load_endpoint(str(control_plane.add_user(f"{user}-{namespace}")))).tls
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def use(user: str) -> None:
        shutil.copy(files[user].cert_file, cert)
        shutil.copy(files[user].key_file, key)

    use("before")
    tls = TlsFiles(ca_file=files["before"].ca_file, cert_file=str(cert), key_file=str(key))
    transport = Transport(Endpoint(url=control_plane.url, tls=tls), settings=TransportSettings(check_files_every=0.0))
    client = Client(transport, None, field_manager="faults")
    for user in ("before", "after"):
        use(user)
        with pytest.raises(ForbiddenError, match=f'User "{user}-{namespace}"'):
            await client.get_live(CONFIG_MAP, Key(namespace, "a"))
    key.write_text("half written")
    with pytest.raises(ForbiddenError, match=f'User "after-{namespace}"'):
        await client.get_live(CONFIG_MAP, Key(namespace, "a"))
    await transport.close()


async def test_a_missing_permission_stops_one_informer_only_and_is_named(
    control_plane: Handle, namespace: str, make_user: Callable[..., object], admin: Kube
) -> None:
    rules = [{"apiGroups": ["test.example.com"], "resources": ["widgets"], "verbs": ["*"]}]
    kubeconfig = await make_user("narrow", rules=rules, namespace=namespace)
    transport = Transport(await load_endpoint(str(kubeconfig)))
    cache = Cache(transport, settings=QUICK, namespaces=[namespace])
    client = Client(transport, cache, field_manager="faults")
    widgets, secrets = cache.declare(WIDGET), cache.declare(SECRET, metadata_only=True)
    running = asyncio.create_task(cache.run())
    try:
        await eventually(lambda: widgets.has_synced, "the allowed kind is in sync")
        await eventually(lambda: any("403" in problem for problem in cache.problems()), "the refusal is reported")
        (problem,) = cache.problems()
        assert problem.startswith(f"secrets in {namespace}: not synced yet: 403 Forbidden")
        await client.create(WIDGET, {"metadata": {"name": "w", "namespace": namespace}})
        assert cache.reader.get(WIDGET, Key(namespace, "w")) is not None
        assert sum(secrets.stats().lists.values()) < 30
        user = f"narrow-{kubeconfig.stem.rpartition('-')[2]}"
        await admin.create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "wider", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }
        )
        await eventually(lambda: secrets.has_synced and not cache.problems(), "the grant is noticed")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close()
