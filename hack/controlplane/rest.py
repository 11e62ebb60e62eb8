"""A small asynchronous REST client on plain dictionaries, so that tests judge the product without using the product.

    async with Kube(kubeconfig) as kube:
        await kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}})
        await kube.wait_for("v1", "ConfigMap", "a", namespace="b", until=lambda found: found is not None)

Kinds are named by apiVersion and kind; plural and scope come from discovery.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import yaml

Object = dict[str, Any]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_LINE_LIMIT = 32 << 20


class KubeError(Exception):
    """The API server's answer to a request that it did not carry out."""

    def __init__(self, status: int, body: bytes) -> None:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            parsed = {}
        self.status = status
        self.body: Object = parsed if isinstance(parsed, dict) else {}
        self.reason: str = self.body.get("reason", "")
        self.message: str = self.body.get("message", body[:500].decode(errors="replace"))
        super().__init__(f"{status} {self.reason}: {self.message}")


class Kube:
    """A client for one kubeconfig; use it as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.server, self._tls, self._headers = _read(kubeconfig)
        self._session: aiohttp.ClientSession | None = None
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self.server,
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
            read_bufsize=_LINE_LIMIT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Object:
        """Send any request; returns the JSON answer. Raises `KubeError` for a status of 400 or more."""
        data = None if body is None else orjson.dumps(body)
        async with self._open.request(
            method, path, data=data, params=params or {}, headers={"Content-Type": content_type}
        ) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise KubeError(answer.status, content)
            result = orjson.loads(content)
            assert isinstance(result, dict)
            return result

    async def text(self, path: str) -> str:
        """GET a path that answers with text: /readyz, /metrics."""
        async with self._open.get(path) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise KubeError(answer.status, content)
            return content.decode()

    async def path(
        self, api_version: str, kind: str, name: str = "", *, namespace: str = "", subresource: str = ""
    ) -> str:
        """The path of an object, or of its collection without `name`; raises `LookupError` for an unknown kind."""
        plural, namespaced = await self._resource(api_version, kind)
        parts = ["api" if "/" not in api_version else "apis", api_version]
        if namespaced and namespace:
            parts += ["namespaces", namespace]
        elif namespaced and name:
            raise ValueError(f"{kind} {name} needs a namespace")
        parts += [part for part in (plural, name, subresource) if part]
        return "/" + "/".join(parts)

    async def get(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object:
        """Read an object; `KubeError` with status 404 when it is not there."""
        return await self.request("GET", await self.path(api_version, kind, name, namespace=namespace))

    async def find(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        """Read an object; None when it is not there."""
        try:
            return await self.get(api_version, kind, name, namespace=namespace)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All objects, with apiVersion and kind set (lists leave them out). Selectors are in kubectl's syntax."""
        params = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        answer = await self.request("GET", await self.path(api_version, kind, namespace=namespace), params=params)
        return [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]

    async def create(self, body: Object, *, dry_run: bool = False) -> Object:
        """Create an object (POST)."""
        params = {"dryRun": "All"} if dry_run else {}
        path = await self._path_of(body, collection=True)
        return await self.request("POST", path, body=body, params={"fieldValidation": "Strict", **params})

    async def update(self, body: Object, *, subresource: str = "") -> Object:
        """Replace an object (PUT), or its status."""
        return await self.request("PUT", await self._path_of(body, subresource=subresource), body=body)

    async def apply(
        self,
        body: Object,
        *,
        field_manager: str = "tests",
        force: bool = True,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply."""
        params = {"fieldManager": field_manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        path = await self._path_of(body, subresource=subresource)
        return await self.request("PATCH", path, body=body, params=params, content_type="application/apply-patch+yaml")

    async def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Any,
        *,
        namespace: str = "",
        subresource: str = "",
        type: str = "merge",  # noqa: A002  kubectl's word
    ) -> Object:
        """Patch an object; `type` is merge, json or strategic."""
        path = await self.path(api_version, kind, name, namespace=namespace, subresource=subresource)
        return await self.request("PATCH", path, body=patch, content_type=PATCH_TYPES[type])

    async def delete(
        self, api_version: str, kind: str, name: str, *, namespace: str = "", propagation: str = "Background"
    ) -> None:
        """Delete an object; one that is gone already is fine."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        try:
            await self.request("DELETE", await self.path(api_version, kind, name, namespace=namespace), body=body)
        except KubeError as error:
            if error.status != 404:
                raise

    async def watch(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str = "",
        fields: str = "",
        labels: str = "",
        resource_version: str = "",
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Yield (type, object) until the caller stops; without a resource version it starts with what is there."""
        chosen = {"fieldSelector": fields, "labelSelector": labels, "resourceVersion": resource_version}
        params = {"watch": "true"} | {key: value for key, value in chosen.items() if value}
        path = await self.path(api_version, kind, namespace=namespace)
        forever = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._open.get(path, params=params, timeout=forever) as answer:
            if answer.status >= 400:
                raise KubeError(answer.status, await answer.read())
            async for line in answer.content:
                event = orjson.loads(line)
                yield event["type"], event["object"]

    async def wait_for(
        self,
        api_version: str,
        kind: str,
        name: str,
        *,
        namespace: str = "",
        until: Callable[[Object | None], bool],
        timeout: float = 10.0,
    ) -> Object | None:
        """Watch one object until `until(object, or None when it is not there)` is true; return what satisfied it.

        Raises:
            TimeoutError: not within `timeout` seconds; the message holds the last object seen.
        """
        last: Object | None = None
        try:
            async with asyncio.timeout(timeout):
                while True:  # the server ends a watch after a while
                    last = await self.find(api_version, kind, name, namespace=namespace)
                    if until(last):
                        return last
                    version = last["metadata"]["resourceVersion"] if last else ""
                    events = self.watch(
                        api_version, kind, namespace=namespace, fields=f"metadata.name={name}", resource_version=version
                    )
                    async with aclosing(events):
                        async for type_, found in events:
                            if type_ == "ERROR":
                                break
                            last = None if type_ == "DELETED" else found
                            if until(last):
                                return last
        except TimeoutError:
            shown = orjson.dumps(last, option=orjson.OPT_INDENT_2).decode()
            raise TimeoutError(f"{kind} {namespace}/{name}: not as expected after {timeout:g} s:\n{shown}") from None

    async def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        known = self._resources.get((api_version, kind))
        if known is None:
            prefix = "apis" if "/" in api_version else "api"
            try:
                items = (await self.request("GET", f"/{prefix}/{api_version}"))["resources"]
            except KubeError as error:
                if error.status != 404:
                    raise
                items = []
            for item in items:
                if "/" not in item["name"]:
                    self._resources[api_version, item["kind"]] = (item["name"], item["namespaced"])
            known = self._resources.get((api_version, kind))
        if known is None:
            raise LookupError(f"the server has no {kind} in {api_version}")
        return known

    async def _path_of(self, body: Object, *, subresource: str = "", collection: bool = False) -> str:
        meta = body["metadata"]
        name = "" if collection else meta["name"]
        return await self.path(
            body["apiVersion"], body["kind"], name, namespace=meta.get("namespace", ""), subresource=subresource
        )

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Kube(...)`")
        return self._session


def _read(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as file:  # ssl reads certificates from files only
            file.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            file.flush()
            tls.load_cert_chain(file.name)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return cluster["server"], tls, headers
