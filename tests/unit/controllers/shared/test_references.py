"""Who refers to whom."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from api import v1beta1
from controllers.shared import references
from controllers.shared.references import auth_config_changed, auth_configs_of
from controllers.shared.remote import rank
from controllers.shared.resources import AUTH_CONFIG, ENDPOINT, ENTRY, PROXY, SERVER, VMCP
from runtime import Event, Record, Resource
from runtime.wire.decode import decode_record


def record(resource: Resource, **body: Any) -> Record:
    meta = {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "1"} | body.pop("metadata", {})
    return decode_record(
        resource, orjson.dumps({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta} | body)
    )


def ref(name: str) -> dict:
    return {"externalAuthConfigRef": {"name": name}}


@pytest.mark.parametrize(
    ("kind", "spec", "names"),
    [
        (ENTRY, ref("a"), ["a"]),
        (SERVER, ref("a") | {"authServerRef": {"kind": "MCPExternalAuthConfig", "name": "b"}}, ["a", "b"]),
        (PROXY, ref("a") | {"authServerRef": {"name": "a"}}, ["a"]),
        (ENDPOINT, ref("a") | {"proxyConfig": {"authServerRef": {"name": "b"}}}, ["a", "b"]),
        (
            VMCP,
            {
                "outgoingAuth": {
                    "default": ref("a"),
                    "backends": {"x": ref("b"), "y": ref("a"), "z": {"type": "discovered"}},
                }
            },
            ["a", "b"],
        ),
        (VMCP, {"outgoingAuth": {"backends": {"x": None, "y": ref("")}}}, []),
        (VMCP, {"outgoingAuth": {"backends": ["odd"]}}, []),
        (ENTRY, {"externalAuthConfigRef": "odd"}, []),
        (ENTRY, {}, []),
    ],
)
def test_auth_configs_are_found_wherever_they_are_named(kind: Resource, spec: dict, names: list[str]) -> None:
    assert auth_configs_of(record(kind, spec=spec)) == names


def test_an_object_without_spec_refers_to_nothing() -> None:
    assert [auth_configs_of(record(kind)) for kind in (ENTRY, SERVER, PROXY, ENDPOINT, VMCP)] == [[]] * 5


def test_users_hear_of_an_auth_configs_spec_and_verdict_but_not_of_its_labels() -> None:
    old = record(AUTH_CONFIG, metadata={"generation": 1}, status={"conditions": [], "configHash": "x"})
    assert auth_config_changed(Event(old, record(AUTH_CONFIG, metadata={"generation": 2})))
    assert auth_config_changed(Event(old, record(AUTH_CONFIG, metadata={"generation": 1}, status={"conditions": [1]})))
    same = record(AUTH_CONFIG, metadata={"generation": 1, "labels": {"a": "b"}}, status={"conditions": []})
    assert not auth_config_changed(Event(old, same))
    assert auth_config_changed(Event(old, None))


def test_the_older_object_wins_and_then_the_smaller_uid() -> None:
    first = record(ENTRY, metadata={"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "b"})
    same_second = record(ENTRY, metadata={"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "c"})
    later = record(ENTRY, metadata={"creationTimestamp": "2026-01-01T00:00:01Z", "uid": "a"})
    assert sorted([later, same_second, first], key=rank) == [first, same_second, later]


def test_kinds_are_named_as_the_api_names_them() -> None:
    from api.v1beta1 import MCPServerEntry

    assert Resource(*MCPServerEntry.coordinates()) == ENTRY
    assert str(ENTRY) == "mcpserverentries.toolhive.stacklok.dev"


SINGLE_VALUED = {
    references.GROUP_REF: ("MCPServer", "MCPRemoteProxy", "MCPServerEntry", "MCPRemoteEndpoint", "VirtualMCPServer"),
    references.CA_BUNDLE_REF: ("MCPServerEntry", "MCPRemoteEndpoint"),
    references.TOOL_CONFIG_REF: ("MCPRemoteEndpoint",),
}


@pytest.mark.parametrize(("path", "kind"), [(path, kind) for path, kinds in SINGLE_VALUED.items() for kind in kinds])
def test_what_the_cache_answers_by_index_the_server_answers_by_field_selector(path: str, kind: str) -> None:
    assert f".{path}" in getattr(v1beta1, kind).definition.selectable
