"""The samples of config/samples as objects for a test's namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from api.v1beta1 import KINDS
from hack.controlplane.rest import Kube

SAMPLES = Path(__file__).parents[2] / "config" / "samples"
API = "toolhive.stacklok.dev/v1beta1"
SILENT = ("Secret", "ConfigMap", *(kind.__name__ for kind in KINDS if not kind.definition.reconciled))
"""Kinds whose objects get no status from the operator."""


def samples(namespace: str) -> list[dict[str, Any]]:
    """All objects, in the order of the kustomization."""
    names = yaml.safe_load((SAMPLES / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    found = []
    for name in names:
        for body in yaml.safe_load_all((SAMPLES / name).read_text(encoding="utf-8")):
            body["metadata"]["namespace"] = namespace
            found.append(body)
    return found


async def apply(admin: Kube, bodies: list[dict[str, Any]]) -> None:
    """Create the objects one after the other."""
    for body in bodies:
        await admin.create(json.loads(json.dumps(body)))


async def settled(admin: Kube, bodies: list[dict[str, Any]]) -> None:
    """Wait until every object of ours has a status for its generation."""
    for body in bodies:
        if body["kind"] in SILENT:
            continue
        metadata = body["metadata"]

        def seen(found: dict[str, Any] | None) -> bool:
            status = (found or {}).get("status", {})
            return bool(status.get("conditions")) and found is not None and current(found)

        await admin.wait_for(
            body["apiVersion"], body["kind"], metadata["name"], namespace=metadata["namespace"], until=seen
        )


def current(found: dict[str, Any]) -> bool:
    """Whether every condition speaks of the present generation."""
    conditions = found.get("status", {}).get("conditions", [])
    return all(
        c.get("observedGeneration", found["metadata"]["generation"]) == found["metadata"]["generation"]
        for c in conditions
    )
