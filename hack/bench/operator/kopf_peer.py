# mypy: ignore-errors
"""The same job on kopf: MCPServerEntry, MCPGroup and the gateway's configuration, small, as kopf's users would do it.

Fair on purpose: low-level event handlers (no progress annotations on user objects), an in-memory index instead of
lists, no posted events, unlimited workers, and a configuration that is written at most five times a second per gateway.

Run by the benchmark with `kopf run --standalone --namespace NS kopf_peer.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

import kopf
import yaml
from kubernetes_asyncio import client, config

GROUP, VERSION = "toolhive.stacklok.dev", "v1beta1"
DEBOUNCE = 0.2

groups_changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Switch off what this comparison does not need."""
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    await config.load_kube_config()
    memo.api = client.ApiClient()


@kopf.on.cleanup()
async def close(memo: kopf.Memo, **_: Any) -> None:
    """Close the client."""
    await memo.api.close()


@kopf.index(GROUP, VERSION, "mcpserverentries")
def entries_of_group(name: str, spec: kopf.Spec, **_: Any) -> dict[str, tuple[str, str, str]]:
    """Entries by group: name, URL, transport."""
    return {spec["groupRef"]["name"]: (name, spec["remoteUrl"], spec["transport"])}


@kopf.index(GROUP, VERSION, "mcpgroups")
def groups(name: str, **_: Any) -> dict[str, bool]:
    """The groups that exist."""
    return {name: True}


def condition(kind: str, true: bool, reason: str, message: str, generation: int) -> dict[str, Any]:
    """One condition."""
    return {
        "type": kind, "status": "True" if true else "False", "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


@kopf.on.event(GROUP, VERSION, "mcpserverentries")
async def entry(
    spec: kopf.Spec, meta: kopf.Meta, status: kopf.Status, patch: kopf.Patch, groups: kopf.Index[str, bool], **_: Any
) -> None:
    """Check an entry and write its status where it differs."""
    group = spec["groupRef"]["name"]
    groups_changed[group].set()
    generation = meta["generation"]
    url_ok = bool(urlsplit(spec["remoteUrl"]).hostname)
    group_ok = group in groups
    wanted = {
        "phase": "Valid" if url_ok and group_ok else "Failed",
        "observedGeneration": generation,
        "conditions": [
            condition("RemoteURLValidated", url_ok, "RemoteURLValid", "URL is usable", generation),
            condition("GroupRefValidated", group_ok, "GroupRefIsValid", "Group is ready", generation),
            condition("Valid", url_ok and group_ok, "ConfigValid", "All referenced resources are valid", generation),
        ],
    }
    if {k: status.get(k) for k in wanted} != wanted:
        patch.status.update(wanted)


@kopf.daemon(GROUP, VERSION, "mcpgroups", cancellation_timeout=1.0)
async def group_status(
    name: str, namespace: str, memo: kopf.Memo, entries_of_group: kopf.Index[str, tuple[str, str, str]], **_: Any
) -> None:
    """Count the members, at most five times a second."""
    api = client.CustomObjectsApi(memo.api)
    last: Any = None
    while True:
        names = sorted(n for n, *_ in entries_of_group.get(name, ()))
        status = {"phase": "Ready", "entries": names, "entryCount": len(names)}
        if status != last:
            await api.patch_namespaced_custom_object_status(
                GROUP, VERSION, namespace, "mcpgroups", name, {"status": status},
                _content_type="application/merge-patch+json",
            )  # fmt: skip
            last = status
        await asyncio.sleep(DEBOUNCE)


@kopf.daemon(GROUP, VERSION, "virtualmcpservers", cancellation_timeout=1.0)
async def gateway(
    name: str, namespace: str, spec: kopf.Spec, memo: kopf.Memo,
    entries_of_group: kopf.Index[str, tuple[str, str, str]], **_: Any,
) -> None:  # fmt: skip
    """Keep the configuration of a gateway current."""
    api = client.CoreV1Api(memo.api)
    group = spec["groupRef"]["name"]
    changed = groups_changed[group]
    while True:
        changed.clear()
        members = sorted(entries_of_group.get(group, ()))
        document = {
            "name": name,
            "groupRef": group,
            "backends": [{"name": n, "url": u, "transport": t} for n, u, t in members],
            "incomingAuth": {"type": "anonymous"},
        }
        text = await asyncio.to_thread(yaml.dump, document, Dumper=yaml.CSafeDumper, sort_keys=False)
        await write(api, namespace, f"{name}-vmcp-config", text)
        await changed.wait()
        await asyncio.sleep(DEBOUNCE)


async def write(api: client.CoreV1Api, namespace: str, name: str, text: str) -> None:
    """Create or replace the ConfigMap. One that is too large is refused by the server; kopf would retry for ever."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"config.yaml": text}}
    with contextlib.suppress(client.ApiException):
        try:
            await api.patch_namespaced_config_map(
                name, namespace, {"data": body["data"]}, _content_type="application/merge-patch+json"
            )
        except client.ApiException as error:
            if error.status == 404:
                await api.create_namespaced_config_map(namespace, body)
