"""Repairs have a rate: at once after a hand edit, rarer and rarer against somebody who sticks to another value."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.shared.contests import FREE, LONGEST_PAUSE, Contests, contender
from controllers.shared.resources import DEPLOYMENT
from controllers.shared.timing import Timing
from runtime import Key
from tests.support.clock import Clock

PLACE = (DEPLOYMENT, Key("ns", "v"))


def test_hand_edits_are_repaired_at_once_however_many_there_are_over_the_day():
    clock = Clock()
    contests = Contests(clock)
    for _ in range(50):
        assert contests.of(PLACE) is None
        contests.repaired(PLACE)
        clock.now += Timing().peace


def repairs_within(seconds: float, every: float) -> int:
    """Somebody puts the object back `every` seconds after each repair; count the repairs."""
    clock = Clock()
    contests, made, end = Contests(clock), 0, clock.now + seconds
    while clock.now < end:
        contest = contests.of(PLACE)
        if contest is None or contest.repair:
            contests.repaired(PLACE)
            made += 1
            clock.now += every
        else:
            clock.now += min(contest.due, 1.0)
    return made


@pytest.mark.parametrize("every", [0.01, 0.5, 3.0])
def test_against_somebody_who_sticks_to_another_value_repairs_become_rare(every: float):
    assert FREE < repairs_within(20, every) <= FREE + 5
    assert repairs_within(3600, every) <= FREE + 9 + 3600 / LONGEST_PAUSE


def test_a_contest_names_who_it_is_with_and_its_words_do_not_change_from_repair_to_repair():
    clock = Clock()
    contests = Contests(clock)
    for _ in range(FREE):
        contests.repaired(PLACE)
    contests.blame(PLACE, "argocd-controller", "spec.replicas")
    first = contests.of(PLACE)
    clock.now += 5
    contests.repaired(PLACE)
    second = contests.of(PLACE)
    assert first is not None
    assert second is not None
    assert 'field manager "argocd-controller"' in str(first)
    assert "spec.replicas of Deployment v" in str(first)
    assert str(first) == str(second)


def test_a_contest_ends_when_the_object_was_left_in_peace_and_the_next_edit_is_repaired_at_once():
    clock = Clock()
    contests = Contests(clock)
    for _ in range(FREE + 3):
        contests.repaired(PLACE)
    found = contests.of(PLACE)
    assert found is not None
    assert not found.repair
    clock.now += Timing().peace
    assert contests.of(PLACE) is None


def test_one_object_that_is_fought_about_costs_the_others_nothing():
    contests = Contests(Clock())
    for _ in range(FREE):
        contests.repaired(PLACE)
    assert contests.of(PLACE) is not None
    assert contests.of((DEPLOYMENT, Key("ns", "w"))) is None


INTENT = {
    "metadata": {"name": "v", "labels": {"a": "b"}},
    "spec": {
        "template": {"spec": {"containers": [{"name": "vmcp", "image": "x"}], "terminationGracePeriodSeconds": 9}}
    },
}


def entry(manager: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields} | more


IMAGE = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"vmcp"}': {".": {}, "f:image": {}}}}}}}
GRACE = {"f:spec": {"f:template": {"f:spec": {"f:terminationGracePeriodSeconds": {}}}}}
SIDECAR = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"side"}': {"f:image": {}}}}}}}

CONTENDERS = {
    "a field": ([entry("argo", GRACE)], ("argo", "spec.template.spec.terminationGracePeriodSeconds")),
    "a field of a list's element": ([entry("keel", IMAGE)], ("keel", "spec.template.spec.containers[name=vmcp].image")),
    "the latest of several": (
        [entry("old", GRACE), entry("new", IMAGE, time="2026-02-01T00:00:00Z")],
        ("new", "spec.template.spec.containers[name=vmcp].image"),
    ),
    "somebody else's container": ([entry("mesh", SIDECAR)], ("", "")),
    "ourselves": ([entry("mcp-operator", GRACE, operation="Apply")], ("", "")),
    "a status": ([entry("kcm", GRACE, subresource="status")], ("", "")),
    "nonsense": ([{}, entry("x", {"k:{": {}, "v:1": {}, "f:metadata": {"f:labels": {".": {}}}})], ("", "")),
}


@pytest.mark.parametrize(("managed", "found"), CONTENDERS.values(), ids=CONTENDERS.keys())
def test_who_has_the_other_value_is_read_from_the_managed_fields(managed: list[dict[str, Any]], found: tuple[str, str]):
    assert contender(managed, INTENT, "mcp-operator") == found
