"""config/samples/replicas is a gateway that shares a store, as the manual and the gateway understand it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from api.v1beta1 import VirtualMCPServer
from controllers.virtualmcpserver.names import CONTAINER, labels_of
from vmcp.config import options

SAMPLE = Path(__file__).parents[4] / "config/samples/replicas"
MANUAL = (Path(__file__).parents[4] / "docs/vmcp/operations.md").read_text(encoding="utf-8")


def documents(name: str) -> dict[str, dict[str, Any]]:
    return {body["kind"]: body for body in yaml.safe_load_all((SAMPLE / name).read_text(encoding="utf-8"))}


@pytest.fixture
def gateway() -> dict[str, Any]:
    return documents("gateway.yaml")["VirtualMCPServer"]


def test_the_gateway_finds_the_store_that_stands_beside_it(gateway):
    spec = VirtualMCPServer.model_validate(gateway).spec
    store = documents("store.yaml")
    service = store["Service"]
    assert spec.session_storage.address == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert service["spec"]["selector"] == store["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (peer,) = store["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    assert peer["podSelector"]["matchLabels"].items() <= labels_of(gateway["metadata"]["name"]).items()


def test_its_variables_are_the_gateways_and_its_files_are_mounted(gateway):
    pod = gateway["spec"]["podTemplateSpec"]["spec"]
    (container,) = pod["containers"]
    known = {value for name, value in vars(options).items() if name.endswith("_ENV")}
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert container["name"] == CONTAINER
    assert variables.keys() <= known
    assert all(name in MANUAL for name in variables)
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    (secret,) = yaml.safe_load((SAMPLE / "kustomization.yaml").read_text(encoding="utf-8"))["secretGenerator"]
    assert mount["name"] == volume["name"]
    assert volume["secret"]["secretName"] == secret["name"]
    keys = {f"{mount['mountPath']}/{literal.partition('=')[0]}" for literal in secret["literals"]}
    assert variables[options.REDIS_PASSWORD_FILE_ENV] in keys
