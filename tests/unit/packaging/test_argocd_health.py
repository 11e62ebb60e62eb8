"""Argo CD's health script says what the status means, run by a real Lua as Argo CD runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from api.v1beta1 import KINDS
from hack.controlplane import binaries
from hack.controlplane.programs import KUBECTL

ROOT = Path(__file__).resolve().parents[3]
ARGOCD = ROOT / "config" / "argocd"
SCRIPT = (ARGOCD / "health.lua").read_text()
NAMES = [str(kind.model_fields["kind"].default) for kind in KINDS]
RECONCILED = [str(kind.model_fields["kind"].default) for kind in KINDS if kind.definition.reconciled]
STATUSES = {"Healthy", "Progressing", "Degraded", "Suspended"}


def condition(type_: str, status: str, reason: str = "Why", message: str = "because") -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def health(kind: str, status: dict[str, Any] | None, **metadata: Any) -> tuple[str, str]:
    """Run the script as Argo CD does: Lua 5.1 with the base and table libraries, the object in the global `obj`."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute("""
        io, os, debug, math, string = nil, nil, nil, nil, nil
        getmetatable("").__index = nil
    """)
    obj = {"kind": kind, "metadata": {"name": "x", "generation": 2} | metadata}
    if status is not None:
        obj["status"] = status
    lua.globals()["obj"] = lua.table_from(obj, recursive=True)
    result = lua.execute(SCRIPT)
    return result["status"], result["message"]


@pytest.mark.parametrize("kind", RECONCILED)
def test_a_reconciled_kind_is_progressing_until_its_generation_was_judged(kind: str) -> None:
    ready = [condition("Ready", "True")]
    assert health(kind, None)[0] == "Progressing"
    assert health(kind, {"observedGeneration": -1})[0] == "Progressing"
    assert health(kind, {"observedGeneration": 1, "conditions": ready})[0] == "Progressing"
    assert health(kind, {"observedGeneration": 2, "conditions": ready}) == ("Healthy", "because")


@pytest.mark.parametrize("kind", RECONCILED)
def test_what_only_a_user_can_mend_is_degraded_and_says_why(kind: str) -> None:
    stuck = [condition("Ready", "False"), condition("Stalled", "True", "RemoteURLInvalid", "a blocked address")]
    found = health(kind, {"observedGeneration": 2, "phase": "Failed", "conditions": stuck})
    assert found == ("Degraded", "RemoteURLInvalid: a blocked address")
    assert health(kind, {"observedGeneration": 1, "conditions": stuck})[0] == "Progressing", "it may be mended already"


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_what_is_not_there_yet_is_progressing_and_what_serves_in_part_is_degraded(status: str) -> None:
    unready = {"observedGeneration": 2, "conditions": [condition("Ready", status)]}
    assert health("VirtualMCPServer", unready | {"phase": "Pending"}) == ("Progressing", "Why: because")
    assert health("VirtualMCPServer", unready | {"phase": "Degraded"}) == ("Degraded", "Why: because")
    assert health("MCPRemoteEndpoint", unready | {"phase": "Failed"})[0] == "Degraded"
    assert health("MCPServer", unready | {"phase": "Stopped"})[0] == "Suspended"


def test_kinds_without_a_controller_are_healthy_unless_somebody_says_otherwise() -> None:
    assert health("MCPToolConfig", None)[0] == "Healthy"
    assert health("MCPOIDCConfig", {"conditions": [condition("Valid", "False")]}) == ("Degraded", "Why: because")
    assert health("MCPOIDCConfig", {"conditions": [condition("Valid", "True")]})[0] == "Healthy"


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"phase": "Failed"}])
def test_no_shape_of_a_status_breaks_the_script(kind: str, status: dict[str, Any] | None) -> None:
    assert health(kind, status)[0] in STATUSES
    assert health(kind, status, deletionTimestamp="2026-01-01T00:00:00Z")[0] == "Progressing"


def test_the_component_gives_argo_cd_the_script_for_every_kind(tmp_path: Path) -> None:
    base = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(base | {"data": {"url": "https://argocd.example"}}))
    component = tmp_path / "component"
    component.mkdir()
    for file in ARGOCD.iterdir():
        (component / file.name).write_text(file.read_text())
    (tmp_path / "kustomization.yaml").write_text("resources: [argocd-cm.yaml]\ncomponents: [component]\n")
    found = binaries.ensure()
    command = [str(found.path(KUBECTL)), "kustomize", str(tmp_path)]
    built = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    keys = {f"resource.customizations.health.toolhive.stacklok.dev_{name}" for name in NAMES}
    assert built["data"] == {"url": "https://argocd.example"} | dict.fromkeys(keys, SCRIPT)
