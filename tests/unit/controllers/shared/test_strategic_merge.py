"""The directives one by one. The comparison with kubectl on generated pairs is in tests/envtest/strategic_merge."""

from __future__ import annotations

import copy

import pytest

from controllers.shared.workload.strategic_merge import POD_TEMPLATE_SPEC, StrategicMergeError, strategic_merge

BASE = {
    "metadata": {"labels": {"app": "vmcp", "toolhive": "true"}},
    "spec": {
        "serviceAccountName": "a-vmcp",
        "containers": [
            {
                "name": "vmcp",
                "image": "vmcp:1",
                "args": ["serve", "--port=4483"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"name": "http", "containerPort": 4483}],
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": "a-vmcp-config"}}],
        "tolerations": [{"key": "x", "operator": "Exists"}],
    },
}


def merged(spec: dict) -> dict:
    return strategic_merge(BASE, {"spec": spec}, POD_TEMPLATE_SPEC)["spec"]


def test_an_empty_patch_changes_nothing() -> None:
    assert strategic_merge(BASE, {}, POD_TEMPLATE_SPEC) == BASE


def test_neither_input_is_changed() -> None:
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "vmcp"}], "containers": [{"name": "vmcp", "image": "x"}]}
    }
    before = copy.deepcopy((BASE, patch))
    strategic_merge(BASE, patch, POD_TEMPLATE_SPEC)
    assert (BASE, patch) == before


def test_a_container_merges_by_name_and_its_env_by_name() -> None:
    spec = merged({"containers": [{"name": "vmcp", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]})
    env = {e["name"]: e["value"] for e in spec["containers"][0]["env"]}
    assert env == {"A": "1", "B": "3", "C": "4"}
    assert spec["containers"][0]["image"] == "vmcp:1"


def test_a_sidecar_of_the_patch_comes_first() -> None:
    assert [c["name"] for c in merged({"containers": [{"name": "proxy"}]})["containers"]] == ["proxy", "vmcp"]


def test_a_list_without_merge_key_is_replaced() -> None:
    assert merged({"tolerations": [{"key": "y"}]})["tolerations"] == [{"key": "y"}]
    assert merged({"containers": [{"name": "vmcp", "args": ["x"]}]})["containers"][0]["args"] == ["x"]


def test_null_deletes_a_field() -> None:
    assert "serviceAccountName" not in merged({"serviceAccountName": None})


def test_an_element_is_deleted_by_its_key() -> None:
    spec = merged({"volumes": [{"name": "config", "$patch": "delete"}]})
    assert spec["volumes"] == []


def test_a_list_is_replaced_on_demand() -> None:
    spec = merged({"containers": [{"$patch": "replace"}, {"name": "only"}]})
    assert spec["containers"] == [{"name": "only"}]


def test_a_map_is_replaced_on_demand() -> None:
    result = strategic_merge(BASE, {"metadata": {"$patch": "replace", "labels": {"mine": "1"}}}, POD_TEMPLATE_SPEC)
    assert result["metadata"] == {"labels": {"mine": "1"}}


def test_retain_keys_switches_the_member_of_a_union() -> None:
    spec = merged({"volumes": [{"name": "config", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]})
    assert spec["volumes"] == [{"name": "config", "emptyDir": {}}]


def test_the_order_directive_decides_the_order() -> None:
    spec = merged(
        {"$setElementOrder/containers": [{"name": "vmcp"}, {"name": "proxy"}], "containers": [{"name": "proxy"}]}
    )
    assert [c["name"] for c in spec["containers"]] == ["vmcp", "proxy"]


def test_scalars_are_deleted_from_a_merging_list() -> None:
    base = {"metadata": {"finalizers": ["a", "b", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert strategic_merge(base, patch, POD_TEMPLATE_SPEC) == {"metadata": {"finalizers": ["a", "c"]}}


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers: every element needs its key 'name'"),
        ({"spec": {"$patch": "upsert"}}, "spec: $patch must be replace or delete, not 'upsert'"),
        ({"spec": {"containers": [{"name": "vmcp", "$patch": "merge"}]}}, "spec.containers: $patch in a list element"),
        ({"spec": {"containers": ["vmcp"]}}, "spec.containers: a list must not mix objects and scalars"),
        ({"spec": {"$retainKeys": ["volumes"], "hostNetwork": True}}, "spec: $retainKeys must also list"),
        ({"spec": {"$retainKeys": "volumes"}}, "spec: $retainKeys must be a list"),
        ({"spec": {"$setElementOrder/containers": 1}}, "spec.containers: $setElementOrder must be a list"),
    ],
)
def test_a_malformed_patch_names_the_field(patch: dict, problem: str) -> None:
    with pytest.raises(StrategicMergeError) as error:
        strategic_merge(BASE, patch, POD_TEMPLATE_SPEC)
    assert str(error.value).startswith(problem)
