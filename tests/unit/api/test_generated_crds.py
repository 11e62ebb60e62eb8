"""The generated CRDs say, field by field, what the API's reference table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from api.v1beta1 import KINDS
from hack import gen_crds

ROOT = Path(__file__).resolve().parents[3]
TABLE = json.loads((ROOT / "tests/envtest/api/fields.json").read_text())
CRDS = {
    body["spec"]["names"]["kind"]: body
    for body in (yaml.safe_load(path.read_text()) for path in (ROOT / "config/crd/bases").glob("*.yaml"))
}
SCALARS = ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties")
KUBE = {"list-type": "x-kubernetes-list-type", "list-map-keys": "x-kubernetes-list-map-keys"} | {
    "map-type": "x-kubernetes-map-type"
}
KINDS_AND_VERSIONS = [(kind, v["name"]) for kind, crd in CRDS.items() for v in crd["spec"]["versions"]]


def schema_of(kind: str, version: str) -> dict:
    (found,) = [v for v in CRDS[kind]["spec"]["versions"] if v["name"] == version]
    return found["schema"]["openAPIV3Schema"]


def type_name(schema: dict) -> str:
    kept = " (unknown kept)" if schema.get("x-kubernetes-preserve-unknown-fields") else ""
    kind = schema.get("type", "any")
    if kind == "array":
        return f"[{type_name(schema['items'])}]"
    if "additionalProperties" in schema:
        return f"map[string]{type_name(schema['additionalProperties'])}"
    return kind + (f"/{schema['format']}" if "format" in schema else "") + kept


def facts(schema: dict, *, required: bool) -> dict:
    out = {"type": type_name(schema)} | ({"required": True} if required else {})
    for name in ("default", "enum", *SCALARS):
        if name in schema:
            out[name] = schema[name]
        if name in schema.get("items", {}) and schema["items"].get("type") != "object":
            out[f"items.{name}"] = schema["items"][name]
        if name in (schema.get("additionalProperties") or {}):
            out[f"values.{name}"] = schema["additionalProperties"][name]
    for name, key in KUBE.items():
        if key in schema:
            out[name] = schema[key]
    return out


def flatten(schema: dict, path: str, found: dict[str, dict]) -> None:
    for name, child in sorted(schema.get("properties", {}).items()):
        here = f"{path}.{name}" if path else name
        found[here] = facts(child, required=name in schema.get("required", ()))
        deeper, suffix = child, ""
        while "items" in deeper or "additionalProperties" in deeper:
            suffix += "[]" if "items" in deeper else "{}"
            deeper = deeper.get("items") or deeper["additionalProperties"]
        flatten(deeper, here + suffix, found)


@pytest.mark.parametrize(("kind", "version"), KINDS_AND_VERSIONS)
def test_every_field_has_the_type_default_and_bounds_of_the_table(kind: str, version: str) -> None:
    found: dict[str, dict] = {}
    flatten(schema_of(kind, version), "", found)
    for name in ("apiVersion", "kind", "metadata"):
        del found[name]
    expected = dict(TABLE["kinds"][kind]["fields"])
    expected |= {f"status.conditions[]{name}": fact for name, fact in TABLE["conditionFields"].items()}
    assert {k: v for k, v in found.items() if k not in expected} == {}
    assert {k: v for k, v in expected.items() if k not in found} == {}
    assert {k: (v, expected[k]) for k, v in found.items() if v != expected[k]} == {}


@pytest.mark.parametrize(("kind", "version"), KINDS_AND_VERSIONS)
def test_every_rule_carries_a_message_of_the_table_and_no_message_lacks_its_rule(kind: str, version: str) -> None:
    found: list[tuple[str, str]] = []

    def walk(schema: dict, path: str) -> None:
        found.extend((path, rule["message"]) for rule in schema.get("x-kubernetes-validations", ()))
        for name, child in schema.get("properties", {}).items():
            walk(child, f"{path}.{name}" if path else name)
        if "items" in schema:
            walk(schema["items"], f"{path}[]")
        if isinstance(schema.get("additionalProperties"), dict):
            walk(schema["additionalProperties"], f"{path}{{}}")

    walk(schema_of(kind, version), "")
    expected = [(where, message) for where, message in TABLE["kinds"][kind]["refusals"]]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", CRDS)
def test_names_columns_and_label_are_those_of_the_table(kind: str) -> None:
    crd, table = CRDS[kind], TABLE["kinds"][kind]
    names = crd["spec"]["names"]
    assert names["plural"] == table["plural"]
    assert names["shortNames"] == table["shortNames"]
    assert names["categories"] == ["toolhive"]
    assert crd["metadata"]["labels"] == {"toolhive.stacklok.dev/auto-migrate-storage-version": "true"}
    for version in crd["spec"]["versions"]:
        columns = [[c["name"], c["type"], c["jsonPath"]] for c in version["additionalPrinterColumns"]]
        assert columns == table["columns"]
        assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", CRDS)
def test_v1beta1_is_stored_and_v1alpha1_warns(kind: str) -> None:
    versions = {v["name"]: v for v in CRDS[kind]["spec"]["versions"]}
    assert versions["v1beta1"]["storage"]
    assert not versions["v1beta1"].get("deprecated")
    if kind == "MCPRemoteEndpoint":
        assert set(versions) == {"v1beta1"}
        assert versions["v1beta1"]["schema"]["openAPIV3Schema"]["required"] == ["spec"]
        return
    old = versions["v1alpha1"]
    assert (old["served"], old["storage"], old["deprecated"]) == (True, False, True)
    assert old["deprecationWarning"] == "toolhive.stacklok.dev/v1alpha1 is deprecated; use v1beta1"
    assert old["schema"] == versions["v1beta1"]["schema"]
    assert "required" not in old["schema"]["openAPIV3Schema"]


def test_every_kind_of_the_table_has_a_crd_and_a_model() -> None:
    assert set(CRDS) == set(TABLE["kinds"]) == {kind.model_fields["kind"].default for kind in KINDS}


def test_what_is_in_the_tree_is_what_would_be_generated() -> None:
    assert gen_crds.stale(gen_crds.render(), gen_crds.BASES) == []


def test_generating_twice_gives_the_same_bytes() -> None:
    assert gen_crds.render() == gen_crds.render()


def test_every_crd_fits_into_the_annotation_that_kubectl_apply_writes() -> None:
    """The limit of all annotations together is 256 KiB; kubectl keeps the whole object in one."""
    sizes = {kind: len(json.dumps(crd, separators=(",", ":"))) for kind, crd in CRDS.items()}
    assert {kind: size for kind, size in sizes.items() if size > 240_000} == {}
