"""The vocabulary of conditions is complete, legal on the wire, and documented."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions import VOCABULARIES, KindVocabulary, MemberSkipReason, named_condition_type
from hack.generate_conditions import TARGET

REASON = re.compile(r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
TYPE = re.compile(
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda vocabulary: vocabulary.kind)
def test_every_word_is_legal_and_says_when_it_is_set(vocabulary: KindVocabulary):
    for word in (*vocabulary.types, *vocabulary.reasons, *(vocabulary.phase or ())):
        assert REASON.match(word), word
        assert len(word.description) > 5
        assert word.description.endswith(".")


@pytest.mark.parametrize("vocabulary", [v for v in VOCABULARIES if v.controlled], ids=lambda v: v.kind)
def test_every_type_and_reason_of_a_controlled_kind_has_its_place(vocabulary: KindVocabulary):
    assert {rule.type for rule in vocabulary.rules} == set(vocabulary.types)
    placed = {word for rule in vocabulary.rules for _, words in rule.by_status for word in words}
    assert placed == set(vocabulary.reasons)


def test_words_go_onto_the_wire_as_plain_text():
    vocabulary = VOCABULARIES[0]
    word = next(iter(vocabulary.types))
    assert f"{word}" == str(word) == "MCPServersChecked"
    assert isinstance(word, str)


@given(st.text(max_size=400), st.sampled_from(["BackendAuthConfig", "DiscoveredAuthConfig"]))
def test_any_name_gives_a_condition_type_that_the_api_server_accepts(name: str, family: str):
    found = named_condition_type(family, name)
    assert TYPE.match(found)
    assert len(found) <= 316


@given(st.lists(st.text(max_size=330), unique=True, min_size=2, max_size=5))
def test_two_names_never_share_a_condition_type(names: list[str]):
    assert len({named_condition_type("BackendAuthConfig", name) for name in names}) == len(names)


def test_a_legal_name_stays_as_it_is():
    assert named_condition_type("BackendAuthConfig", "git-hub.v2") == "BackendAuthConfig-git-hub.v2"


def test_every_reason_has_one_anchor_in_the_docs():
    anchors = re.findall(r'<a id="([^"]+)"></a>', TARGET.read_text(encoding="utf-8"))
    wanted = {
        f"{vocabulary.kind}-{word}".lower()
        for vocabulary in VOCABULARIES
        for rule in vocabulary.rules
        for _, words in rule.by_status
        for word in words
    } | {f"member-{word}".lower() for word in MemberSkipReason}
    assert sorted(anchors) == sorted(wanted)


@pytest.mark.parametrize("vocabulary", [v for v in VOCABULARIES if v.controlled], ids=lambda v: v.kind)
def test_tools_that_know_no_kind_find_their_conditions_on_every_controlled_kind(vocabulary: KindVocabulary):
    assert vocabulary.rule("Ready").true
    if vocabulary.kind != "MCPGroup":  # nothing about a group is for the user to mend
        assert vocabulary.rule("Stalled").mirrors == "True"


def test_the_page_in_the_docs_is_current():
    command = [sys.executable, "-m", "hack.generate_conditions", "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
