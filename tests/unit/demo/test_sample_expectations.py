"""How `make run ONCE=1` judges a sample."""

from __future__ import annotations

import pytest
import yaml

from hack.run.expect import Condition, Expectation, SampleError, State
from hack.run.operator import configurations

SAMPLE = {"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServerEntry", "metadata": {"name": "a"}}


def expected(text: str | None) -> Expectation:
    return Expectation.of(SAMPLE, {"MCPServerEntry/a": yaml.safe_load(text)} if text is not None else {})


def entry(*, phase: str = "Valid", generation: int = 1, observed: int | None = 1, **conditions: str) -> State:
    status = {
        "phase": phase,
        "observedGeneration": observed,
        "conditions": [
            {"type": type_, "status": value.split("/")[0], "reason": value.split("/")[1], "message": "m"}
            for type_, value in conditions.items()
        ],
    }
    meta = {"name": "a", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return State.of({"kind": "MCPServerEntry", "metadata": meta, "status": status})


EXPECTED = expected("phase: Valid\nconditions: [Valid=True/ConfigValid]")


def test_a_sample_that_reached_its_state_misses_nothing():
    assert EXPECTED.misses(entry(Valid="True/ConfigValid", Other="False/Whatever")) == []


@pytest.mark.parametrize(
    ("state", "miss"),
    [
        (None, "is not there"),
        (entry(phase="Failed", Valid="True/ConfigValid"), "phase is Failed, expected Valid"),
        (entry(phase="", Valid="True/ConfigValid"), "phase is not set, expected Valid"),
        (entry(), "condition Valid is not set, expected Valid=True/ConfigValid"),
        (entry(Valid="False/ConfigValid"), "condition is Valid=False/ConfigValid, expected Valid=True/ConfigValid"),
        (entry(Valid="True/Else"), "condition is Valid=True/Else, expected Valid=True/ConfigValid"),
        (entry(generation=2, Valid="True/ConfigValid"), "the status is not about the present spec"),
        (entry(observed=None, Valid="True/ConfigValid"), "the status is not about the present spec"),
    ],
)
def test_whatever_is_not_as_expected_is_named(state, miss):
    assert EXPECTED.misses(state) == [miss]


@pytest.mark.parametrize("text", [None, "", "phase", "- a", "phase: Valid\ncondition: []"])
def test_a_sample_that_expects_nothing_readable_is_refused(text):
    with pytest.raises(SampleError, match=r"MCPServerEntry/a: .* must say its phase and conditions"):
        expected(text)


def test_a_mistyped_condition_is_refused_with_the_samples_name():
    with pytest.raises(SampleError, match="MCPServerEntry/a: 'Valid=True': expected Type=Status/Reason"):
        expected("conditions: [Valid=True]")


def test_a_condition_reads_back_what_it_prints():
    assert Condition.parse(str(Condition("A", "False", "B"))) == Condition("A", "False", "B")


def test_only_config_maps_of_gateways_count_as_generated_configurations():
    label = "toolhive.stacklok.io/virtual-mcp-server"
    maps = [
        {"metadata": {"name": "x", "labels": {label: "gw"}}, "data": {"config.yaml": "a: 1\n"}},
        {"metadata": {"name": "y", "labels": {label: "other"}}},
        {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}},
    ]
    assert configurations(maps) == {"gw": "a: 1\n"}
