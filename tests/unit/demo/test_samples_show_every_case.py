"""config/samples shows each case that a user looks for, and each case comes to the state that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from api.v1beta1 import MCPServerEntry
from hack.run.expect import GROUP, SILENT, Expectation, read_table
from tests.support.samples import API, SAMPLES, samples

Object = dict[str, Any]
BODIES = samples("ns")
TABLE = read_table()


def find(kind: str, name: str) -> Object | None:
    """A sample by name."""
    return next((b for b in BODIES if b["kind"] == kind and b["metadata"]["name"] == name), None)


def entries() -> Iterator[Object]:
    yield from (body for body in BODIES if body["kind"] == "MCPServerEntry")


def state(body: Object) -> dict[str, str]:
    """Phase and conditions that are expected."""
    expected = Expectation.of(body, TABLE)
    return {"phase": expected.phase or ""} | {c.type: f"{c.status}/{c.reason}" for c in expected.conditions}


def plain(spec: Object) -> bool:
    return spec.keys() == {"remoteUrl", "transport", "groupRef"}


def bundle(spec: Object) -> bool:
    ref = spec.get("caBundleRef", {}).get("configMapRef", {})
    found = find("ConfigMap", ref.get("name", ""))
    return found is not None and "BEGIN CERTIFICATE" in found["data"].get(ref.get("key", "ca.crt"), "")


def both_headers(spec: Object) -> bool:
    forward = spec.get("headerForward", {})
    refs = [header["valueSecretRef"] for header in forward.get("addHeadersFromSecret", [])]
    held = [(find("Secret", ref["name"]) or {}).get("stringData", {}).get(ref["key"]) for ref in refs]
    return bool(forward.get("addPlaintextHeaders")) and bool(held) and all(held)


def exchange(spec: Object) -> bool:
    config = find("MCPExternalAuthConfig", spec.get("externalAuthConfigRef", {}).get("name", ""))
    return config is not None and config["spec"]["type"] == "tokenExchange"


GOOD: dict[str, Callable[[Object], bool]] = {
    "public": plain,
    "with a CA bundle": bundle,
    "with plaintext and secret headers": both_headers,
    "with token exchange": exchange,
}
BROKEN = {
    "missing group": ("GroupRefValidated", "GroupRefNotFound"),
    "missing auth config": ("ExternalAuthConfigValidated", "AuthConfigNotFound"),
    "missing CA key": ("CABundleRefValidated", "CABundleRefNotFound"),
    "missing secret key": ("HeaderSecretRefsValidated", "HeaderSecretNotFound"),
    "blocked URL": ("RemoteURLValidated", "RemoteURLInvalid"),
    "restricted header": ("HeadersValidated", "RestrictedHeader"),
}


@pytest.mark.parametrize("case", GOOD)
def test_there_is_a_valid_entry(case: str) -> None:
    found = [entry for entry in entries() if entry["apiVersion"] == API and GOOD[case](entry["spec"])]
    assert any(state(entry)["phase"] == "Valid" for entry in found)


@pytest.mark.parametrize("case", BROKEN)
def test_there_is_an_entry_that_is_broken_in_this_way_and_in_no_other(case: str) -> None:
    type_, reason = BROKEN[case]
    found = [entry for entry in entries() if state(entry).get(type_) == f"False/{reason}"]
    assert found
    for entry in found:
        said = state(entry)
        assert (said["phase"], said["Valid"]) == ("Failed", "False/ConfigInvalid")
        assert [key for key, value in said.items() if value.startswith("False/") and key != "Valid"] == [type_]


@pytest.mark.parametrize(
    ("name", "kind", "ref"),
    [("broken-ca-key", "ConfigMap", "CA bundle"), ("broken-secret-key", "Secret", "header's Secret")],
)
def test_where_a_key_is_missing_the_object_is_there(name: str, kind: str, ref: str) -> None:
    entry = find("MCPServerEntry", name)
    assert entry is not None
    spec = MCPServerEntry.model_validate(entry).spec
    if kind == "ConfigMap":
        assert spec.ca_bundle_ref is not None
        assert spec.ca_bundle_ref.config_map_ref is not None
        holder, key = spec.ca_bundle_ref.config_map_ref.name, spec.ca_bundle_ref.config_map_ref.key
    else:
        assert spec.header_forward is not None
        (header,) = spec.header_forward.add_headers_from_secret
        holder, key = header.value_secret_ref.name, header.value_secret_ref.key
    found = find(kind, holder)
    assert found is not None, f"the {ref} is missing altogether"
    assert key not in found.get("data", {}) | found.get("stringData", {})


def test_there_are_a_direct_endpoint_and_a_gateway_of_each_source() -> None:
    endpoints = [body for body in BODIES if body["kind"] == "MCPRemoteEndpoint"]
    assert any(body["spec"]["type"] == "direct" and state(body)["phase"] == "Ready" for body in endpoints)
    gateways = [body["spec"] for body in BODIES if body["kind"] == "VirtualMCPServer"]
    assert {spec["outgoingAuth"]["source"] for spec in gateways} == {"inline", "discovered"}


def test_one_object_is_written_in_the_older_version() -> None:
    old = [body for body in BODIES if body["apiVersion"].endswith("/v1alpha1")]
    assert len(old) == 1
    assert state(old[0])["phase"] == "Valid"


def test_every_file_is_applied_and_every_object_of_ours_has_an_expectation() -> None:
    listed = yaml.safe_load((SAMPLES / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(
        p.name for p in SAMPLES.glob("*.yaml") if p.name not in ("kustomization.yaml", "expected.yaml")
    )
    said = (b for b in BODIES if b["apiVersion"].startswith(GROUP) and b["kind"] not in SILENT)
    assert {f"{b['kind']}/{b['metadata']['name']}" for b in said} == set(TABLE)
