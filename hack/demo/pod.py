"""A stand-in for the kubelet: from the Deployment that the operator made to files and a command line.

Nothing is edited on the way. The ConfigMaps of the pod's volumes are written below a directory at their mount paths,
the environment is resolved from Secrets, and the container's own arguments are kept but for what a pod has and a desk
has not: the address to listen on, and where absolute paths begin.
"""

from __future__ import annotations

import base64
import gzip
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.controlplane import Kube, Object
from hack.controlplane.process import LOOPBACK

CONFIG_FILE = "config.yaml"
"""The one file that the command line of every gateway names: the key in its ConfigMap (ToolHive's contract)."""
CONTAINERS = ("vmcp", "toolhive")
"""Names of the container that is a gateway, or a proxy (ToolHive's contract)."""
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Pod:
    """What would run in the container.

    Attributes:
        arguments: Of the container, as the operator wrote them.
        environ: Of the container, Secrets resolved.
        root: Directory below which the mounted files are.
        config: The configuration file.
    """

    arguments: tuple[str, ...]
    environ: dict[str, str]
    root: Path
    config: Path

    def serve(self, *, port: int, resolve: Iterable[str] = ()) -> list[str]:
        """Return the container's command line for this machine, interpreter first; to be run with `environ` alone.

        Args:
            port: on loopback; 0 for any.
            resolve: values of `--resolve`.
        """
        here = {"--config": str(self.config), "--host": LOOPBACK, "--port": str(port)}
        kept = [
            f"{name}={here.get(name, value)}" if mark else name
            for name, mark, value in (word.partition("=") for word in self.arguments)
            if name != "--service-port"  # gateways of several pods share this machine: one port is enough for each
        ]
        return [sys.executable, "-m", "vmcp", *kept, f"--root={self.root}", *(f"--resolve={one}" for one in resolve)]

    def validate(self) -> list[str]:
        """Return the command line that only checks the configuration, with what the container has."""
        kind = ["--proxy"] if self.arguments[:1] == ("proxy",) else []
        return [sys.executable, "-m", "vmcp", "validate", *kind, f"--config={self.config}", f"--root={self.root}"]


async def materialize(kube: Kube, namespace: str, deployment: Object, root: Path) -> Pod:
    """Write the pod's files below `root` and return how to start it.

    Raises:
        LookupError: The Deployment has no container of ours, or mounts what this stand-in does not know.
    """
    spec = deployment["spec"]["template"]["spec"]
    container = next((one for one in spec["containers"] if one["name"] in CONTAINERS), None)
    if container is None:
        raise LookupError(f"the Deployment has no container {' or '.join(CONTAINERS)}")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        directory = root / mount["mountPath"].lstrip("/")
        _mount(directory, await _files(kube, namespace, volumes[mount["name"]]))
    environ = {item["name"]: await _value(kube, namespace, item) for item in container.get("env", ())}
    arguments = tuple(container.get("args", ()))
    path = next((value.partition("=")[2] for value in arguments if value.startswith("--config=")), "")
    if not path:
        raise LookupError(f"the container's arguments name no configuration: {arguments}")
    return Pod(arguments, environ, root, root / path.lstrip("/"))


async def _files(kube: Kube, namespace: str, volume: Object) -> dict[str, bytes]:
    if "emptyDir" in volume:
        return {}
    if "configMap" not in volume:
        raise LookupError(f"volume {volume['name']} is of a kind that this stand-in does not know")
    source = volume["configMap"]
    found = await kube.find("v1", "ConfigMap", source["name"], namespace=namespace)
    if found is None:
        raise LookupError(f"ConfigMap {source['name']} is not there")
    return mounted(found, source.get("items") or ())


def mounted(config_map: Mapping[str, Any], items: Iterable[Object] = ()) -> dict[str, bytes]:
    """Return the files that a mounted ConfigMap shows, by name; all keys where `items` names none."""
    files = {key: value.encode() for key, value in (config_map.get("data") or {}).items()}
    files |= {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}
    chosen = list(items) or [{"key": key, "path": key} for key in files]
    return {item["path"]: files[item["key"]] for item in chosen}


def configuration(config_map: Mapping[str, Any]) -> bytes:
    """Return the YAML that a gateway reads from its mounted ConfigMap; empty when the file is not there."""
    data = mounted(config_map).get(CONFIG_FILE, b"")
    return gzip.decompress(data) if data.startswith(_GZIP) else data


def _mount(directory: Path, files: dict[str, bytes]) -> None:
    """Show exactly these files, each replaced at once: a running gateway looks at them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        fresh = directory / f".{name}.new"
        fresh.write_bytes(data)
        fresh.replace(directory / name)
    for old in directory.iterdir():
        if old.is_file() and old.name not in files:
            old.unlink()


async def _value(kube: Kube, namespace: str, item: dict[str, Any]) -> str:
    source = item.get("valueFrom")
    if source is None:
        return str(item.get("value", ""))
    if "fieldRef" in source:
        return {"metadata.namespace": namespace}.get(source["fieldRef"]["fieldPath"], "demo")
    reference = source["secretKeyRef"]
    secret = await kube.find("v1", "Secret", reference["name"], namespace=namespace)
    if secret is None:
        raise LookupError(f"Secret {reference['name']} is not there")
    return base64.b64decode(secret["data"][reference["key"]]).decode()
