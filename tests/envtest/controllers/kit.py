"""What the tests of the four controllers share: short ways to write objects and to wait for what the operator says."""

from __future__ import annotations

import asyncio
import base64
import functools
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.support.eventually import at_rest
from tests.support.operator import OPERATOR_USER

API = "toolhive.stacklok.dev/v1beta1"
URL = "https://mcp.example.com/mcp"
Object = dict[str, Any]


class Cluster:
    """One namespace of the control plane, as its user sees it."""

    def __init__(self, admin: Kube, namespace: str, control_plane: Handle) -> None:
        self.admin, self.namespace, self.control_plane = admin, namespace, control_plane

    async def create(self, kind: str, name: str, spec: Object | None = None, api: str = API, **top: Any) -> Object:
        metadata = {"name": name, "namespace": self.namespace} | top.pop("metadata", {})
        body = {"apiVersion": api, "kind": kind, "metadata": metadata} | top
        return await self.admin.create(body if spec is None else body | {"spec": spec})

    async def group(self, name: str = "g") -> Object:
        await self.create("MCPGroup", name)
        return await self.until("MCPGroup", name, phase="Ready")

    async def entry(self, name: str = "e", **spec: Any) -> Object:
        base = {"remoteUrl": URL, "transport": "streamable-http", "groupRef": {"name": "g"}}
        return await self.create("MCPServerEntry", name, base | spec)

    async def endpoint(self, name: str = "d", **spec: Any) -> Object:
        base = {"type": "direct", "remoteUrl": URL, "transport": "streamable-http", "groupRef": {"name": "g"}}
        return await self.create("MCPRemoteEndpoint", name, base | spec)

    async def auth(self, name: str = "a", **spec: Any) -> Object:
        return await self.create("MCPExternalAuthConfig", name, spec or {"type": "unauthenticated"})

    async def secret(self, name: str = "s", **data: str) -> Object:
        return await self.create("Secret", name, api="v1", stringData=data)

    async def config_map(self, name: str = "c", **data: str) -> Object:
        return await self.create("ConfigMap", name, api="v1", data=data)

    async def patch(self, kind: str, name: str, patch: Object, *, status: bool = False) -> Object:
        core = kind in ("Secret", "ConfigMap")
        subresource = "status" if status else ""
        return await self.admin.patch(
            "v1" if core else API, kind, name, patch, namespace=self.namespace, subresource=subresource
        )

    async def delete(self, kind: str, name: str) -> None:
        api = "v1" if kind in ("Secret", "ConfigMap") else API
        await self.admin.delete(api, kind, name, namespace=self.namespace)

    async def get(self, kind: str, name: str) -> Object:
        return await self.admin.get(API, kind, name, namespace=self.namespace)

    async def until(
        self, kind: str, name: str, timeout: float = 20.0, *, gone: bool = False, phase: str = "", **conditions: str
    ) -> Object:
        """Wait for a phase and for conditions, each written as Type="Status/Reason"; "" for no such condition."""

        def holds(found: Object | None) -> bool:
            if found is None or gone:
                return gone and found is None
            if phase and found.get("status", {}).get("phase") != phase:
                return False
            said = conditions_of(found)
            return all(said.get(type_, ("", ""))[0] == wanted for type_, wanted in conditions.items())

        found = await self.admin.wait_for(API, kind, name, namespace=self.namespace, until=holds, timeout=timeout)
        return found or {}

    async def event(self, name: str, type_: str, reason: str) -> Object:
        """Wait for an event about the object of a name."""
        watch = self.admin.watch("events.k8s.io/v1", "Event", namespace=self.namespace)
        async for _, found in watch:
            if (found["type"], found["reason"], found["regarding"]["name"]) == (type_, reason, name):
                await watch.aclose()
                return found
        raise AssertionError("the watch ended")

    @asynccontextmanager
    async def broken_webhook(
        self, resource: str = "deployments", group: str = "apps", version: str = "v1"
    ) -> AsyncIterator[str]:
        """Have the server ask a webhook that is down about every write of a resource; yields its name."""
        name = "check.policy.example.com"
        hook = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": f"policy-engine-{self.namespace}"},
            "webhooks": [
                {
                    "name": name,
                    "clientConfig": {"url": "https://127.0.0.1:1/validate"},
                    "rules": [
                        {"apiGroups": [group], "apiVersions": [version], "operations": ["*"], "resources": [resource]}
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "timeoutSeconds": 2,
                    "admissionReviewVersions": ["v1"],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                }
            ],
        }
        made = await self.admin.create(hook)
        try:
            yield name
        finally:
            await self.admin.delete(made["apiVersion"], made["kind"], made["metadata"]["name"])

    def requests(self) -> Iterator[Mapping[str, Any]]:
        """Requests of the operator in this namespace that are no watches, from the audit log."""
        for event in self.control_plane.audit_events(user=OPERATOR_USER, namespace=self.namespace):
            if event["verb"] != "watch":
                yield event

    async def status_writes_at_rest(self, resource: str) -> list[str]:
        """Wait until nothing more is written, and return `status_writes`: a request is logged after it was answered."""
        return await at_rest(lambda: self.status_writes(resource), pause=0.3)

    def status_writes(self, resource: str) -> list[str]:
        """Names of the objects whose status the operator wrote, once for each write, as far as they are logged."""
        return [
            event["objectRef"]["name"]
            for event in self.requests()
            if event["objectRef"]["resource"] == resource and event["objectRef"].get("subresource") == "status"
        ]

    async def assert_idle(self, seconds: float = 2.0) -> None:
        """Nothing is asked of the server and nothing changes while nothing happens."""
        await self.come_to_rest()
        before, versions = len(list(self.requests())), await self._versions()
        await asyncio.sleep(seconds)  # the behaviour under test is that nothing happens in this time
        asked = [f"{e['verb']} {e['requestURI']} {e['requestReceivedTimestamp']}" for e in self.requests()]
        assert asked[before:] == [], asked[before:]
        after = await self._versions()
        assert after == versions, (versions, after)

    async def come_to_rest(self, timeout: float = 15.0, pause: float = 1.0) -> None:
        """Wait out the passes that the last writes still cause: `pause` seconds without a request, within `timeout`."""
        begun = time.time()
        while (left := max(begun, self._last_request()) + pause - time.time()) > 0:
            assert time.time() < begun + timeout, "never at rest"
            await asyncio.sleep(left)

    def _last_request(self) -> float:
        """When the operator was last answered, in Unix seconds; 0 = never."""
        stamps = [event["stageTimestamp"] for event in self.requests()]
        return datetime.fromisoformat(max(stamps)).timestamp() if stamps else 0.0

    async def _versions(self) -> dict[str, str]:
        kinds = ("MCPGroup", "MCPServerEntry", "MCPRemoteEndpoint", "MCPExternalAuthConfig")
        found = [item for kind in kinds for item in await self.admin.list(API, kind, namespace=self.namespace)]
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in found}


def conditions_of(found: Object) -> dict[str, tuple[str, str]]:
    """Type -> (Status/Reason, message)."""
    listed = found.get("status", {}).get("conditions", [])
    return {c["type"]: (f"{c['status']}/{c['reason']}", c["message"]) for c in listed}


def header(name: str, secret: str, key: str) -> Object:
    """A header forwarded from a Secret."""
    return {"headerName": name, "valueSecretRef": {"name": secret, "key": key}}


def encoded(**data: str) -> dict[str, str]:
    """Data of a Secret as it is stored."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


@functools.cache
def certificate() -> str:
    """A PEM certificate authority, made for this run."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def wait_for_the_next_second(cluster: Cluster, kind: str, name: str) -> None:
    """Creation times have whole seconds: the next object must be visibly younger."""
    created = (await cluster.get(kind, name))["metadata"]["creationTimestamp"]
    probe = 0
    while True:
        probe += 1
        made = await cluster.config_map(f"clock-{probe}")
        if made["metadata"]["creationTimestamp"] > created:
            return
