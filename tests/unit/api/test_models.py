"""The models are strict towards users and tolerant towards the server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api import v1alpha1, v1beta1
from api.common.model import CustomResource
from api.v1beta1 import KINDS, MCPExternalAuthConfig, MCPGroup, MCPRemoteEndpoint, MCPServerEntry, MCPServerEntrySpec
from hack import gen_api_docs
from tests.envtest.api.samples import KINDS as TABLE
from tests.envtest.api.samples import Builder, fields_of

SPEC = {"remoteUrl": "https://mcp.example.com", "transport": "sse", "groupRef": {"name": "g"}}


def of(kind: str) -> type[CustomResource]:
    return getattr(v1beta1, kind)


def errors(error: ValidationError) -> dict[str, str]:
    return {".".join(map(str, e["loc"])): e["msg"] for e in error.errors()}


def test_a_user_builds_an_entry_by_attribute_names_and_sends_wire_names() -> None:
    spec = MCPServerEntrySpec(remote_url="https://a.example", transport="sse", group_ref={"name": "g"})
    entry = MCPServerEntry(metadata={"name": "docs", "namespace": "ns"}, spec=spec)
    assert entry.to_wire() == {
        "apiVersion": "toolhive.stacklok.dev/v1beta1",
        "kind": "MCPServerEntry",
        "metadata": {"name": "docs", "namespace": "ns"},
        "spec": {"remoteUrl": "https://a.example", "transport": "sse", "groupRef": {"name": "g"}},
    }


def test_v1alpha1_sends_its_own_version() -> None:
    wire = v1alpha1.MCPServerEntry(metadata={"name": "a"}, spec=SPEC).to_wire()
    assert wire["apiVersion"] == "toolhive.stacklok.dev/v1alpha1"
    assert wire["spec"] == SPEC
    assert {kind.version() for kind in v1alpha1.KINDS} == {"v1alpha1"}
    assert {kind.version() for kind in KINDS} == {"v1beta1"}


def test_a_misspelt_field_is_refused_when_a_user_constructs() -> None:
    with pytest.raises(ValidationError) as refused:
        MCPServerEntry(spec=SPEC | {"remoteURL": "https://b.example", "groupRef": {"name": "g", "nmae": "x"}})
    assert set(errors(refused.value)) == {"spec.remoteURL", "spec.groupRef.nmae"}


def test_values_out_of_bounds_are_refused_all_at_once() -> None:
    headers = {"addHeadersFromSecret": [{"headerName": "", "valueSecretRef": {"name": "s", "key": "k"}}]}
    with pytest.raises(ValidationError) as refused:
        MCPServerEntry(spec=SPEC | {"remoteUrl": "ftp://a", "groupRef": {"name": ""}, "headerForward": headers})
    assert errors(refused.value) == {
        "spec.remoteUrl": "must match ^https?://",
        "spec.groupRef.name": "must have a length of at least 1",
        "spec.headerForward.addHeadersFromSecret.0.headerName": "must have a length of at least 1",
    }


def test_what_the_server_stores_beyond_our_schema_is_read_and_kept() -> None:
    stored = {
        "metadata": {"name": "a", "managedFields": []},
        "spec": SPEC | {"new": {"x": 1}},
        "status": {"phase": "New"},
    }
    entry = MCPServerEntry.model_validate(stored)
    assert entry.status is not None
    assert entry.status.phase == "New"
    assert entry.to_wire()["spec"]["new"] == {"x": 1}


def test_what_was_read_can_be_used_to_construct() -> None:
    spec = MCPServerEntry.model_validate({"spec": SPEC | {"new": 1}}).spec
    assert MCPServerEntry(metadata={"name": "b"}, spec=spec).to_wire()["spec"]["new"] == 1


def test_models_are_frozen() -> None:
    group = MCPGroup(metadata={"name": "a"})
    with pytest.raises(ValidationError, match="frozen"):
        group.kind = "B"  # type: ignore[misc]


def test_a_group_needs_no_spec_and_an_entry_does() -> None:
    assert MCPGroup.model_validate({"metadata": {"name": "a"}}).spec.description is None
    with pytest.raises(ValidationError, match="spec"):
        MCPServerEntry.model_validate({"metadata": {"name": "a"}})


@pytest.mark.parametrize(
    ("model", "path", "wire"),
    [
        ("MCPOIDCConfig", "spec.inline.jwks_allow_private_ip", "jwksAllowPrivateIP"),
        ("MCPOIDCConfig", "spec.inline.protected_resource_allow_private_ip", "protectedResourceAllowPrivateIP"),
        ("MCPExternalAuthConfig", "spec.embedded_auth_server.insecure_allow_http", "insecureAllowHTTP"),
    ],
)
def test_irregular_names_keep_their_spelling(model: str, path: str, wire: str) -> None:
    cls: type = of(model)
    *way, last = path.split(".")
    for step in way:
        annotation = cls.model_fields[step].annotation
        cls = annotation if isinstance(annotation, type) else annotation.__args__[0]
    assert cls.model_fields[last].alias == wire


def test_the_default_type_of_an_endpoint_is_proxy() -> None:
    spec = SPEC | {"proxyConfig": {"oidcConfigRef": {"name": "o", "audience": "a"}}}
    assert MCPRemoteEndpoint(spec=spec).spec.type == "proxy"


def test_every_auth_type_has_its_settings_field() -> None:
    types = TABLE["MCPExternalAuthConfig"]["fields"]["spec.type"]["enum"]
    for name in types:
        found = MCPExternalAuthConfig.model_validate(Builder("MCPExternalAuthConfig").with_value("spec.type", name))
        assert found.spec.type == name


@pytest.mark.parametrize("kind", TABLE)
def test_the_smallest_object_around_any_field_survives_a_round_trip(kind: str) -> None:
    for path in fields_of(kind):
        doc = Builder(kind).around(path)
        if "spec" not in doc:
            doc |= {"spec": Builder(kind).value("spec")}
        wire = of(kind).model_validate(doc).to_wire()
        assert {part: wire[part] for part in doc} == doc
        assert of(kind)(**doc).to_wire() == wire


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.dictionaries(st.text(), c)))
def test_reading_ends_in_a_model_or_a_validation_error(spec: object) -> None:
    try:
        MCPServerEntry.model_validate({"spec": spec})
    except ValidationError:
        return
    assert isinstance(spec, dict)


def test_the_reference_pages_are_what_would_be_generated() -> None:
    files = gen_api_docs.render()
    assert gen_api_docs.sync(files, gen_api_docs.PAGES, check=True) == 0
