"""Installs CustomResourceDefinitions and waits until the server really serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from hack.controlplane.rest import Kube, KubeError, Object

API_VERSION, KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"


def read(paths: Iterable[Path]) -> list[Object]:
    """The definitions in files (multi-document YAML or JSON) and in directories of such files, by file name."""
    return [document for path in paths for document in _documents(path) if document.get("kind") == KIND]


def _documents(path: Path) -> Iterator[Object]:
    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
    for file in files:
        yield from documents(file.read_text(encoding="utf-8"))


def documents(text: str) -> Iterator[Object]:
    """The objects of a text in YAML or JSON; with libyaml where PyYAML has it, which is eight times as fast."""
    found = yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return (document for document in found if isinstance(document, dict))


async def install(kube: Kube, definitions: Iterable[Object], *, wait: float = 30.0) -> list[str]:
    """Create or update the definitions; return their names once every served version is in discovery.

    Raises:
        KubeError: the server refuses a definition.
        TimeoutError: not served after `wait` seconds.
    """
    definitions = list(definitions)
    await asyncio.gather(*(kube.apply(body, field_manager="controlplane") for body in definitions))
    await asyncio.gather(*(_served(kube, body, wait) for body in definitions))
    return [body["metadata"]["name"] for body in definitions]


async def uninstall(kube: Kube, names: Iterable[str], *, wait: float = 30.0) -> None:
    """Delete definitions (and with them all their objects), and wait until they are gone."""
    names = list(names)
    await asyncio.gather(*(kube.delete(API_VERSION, KIND, name) for name in names))
    await asyncio.gather(
        *(kube.wait_for(API_VERSION, KIND, name, until=lambda found: found is None, timeout=wait) for name in names)
    )


def established(definition: Object | None) -> bool:
    """Whether the server accepted the names and serves the definition."""
    conditions = (definition or {}).get("status", {}).get("conditions") or []  # null at first
    true = {c["type"] for c in conditions if c["status"] == "True"}
    return {"Established", "NamesAccepted"} <= true


async def _served(kube: Kube, body: Object, wait: float) -> None:
    name, spec = body["metadata"]["name"], body["spec"]
    await kube.wait_for(API_VERSION, KIND, name, until=established, timeout=wait)
    async with asyncio.timeout(wait):
        for version in (v["name"] for v in spec["versions"] if v["served"]):
            while not await _discovered(kube, f"{spec['group']}/{version}", spec["names"]["plural"]):  # noqa: ASYNC110  discovery has no watch
                await asyncio.sleep(0.02)


async def _discovered(kube: Kube, api_version: str, plural: str) -> bool:
    try:
        resources = (await kube.request("GET", f"/apis/{api_version}"))["resources"]
    except KubeError as error:
        if error.status == 404:
            return False
        raise
    return any(resource["name"] == plural for resource in resources)
