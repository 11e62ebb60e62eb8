"""Every condition, status and reason of the six kinds appears and goes away in a test, or stands in the docs as one
that this design cannot produce.

The tests claim it with `shows` (`tests/envtest/controllers/lifecycles.py`) and each claim is checked on the server when
its test runs; here the claims are counted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.conditions import VOCABULARIES, KindVocabulary

ROOT = Path(__file__).parents[3]
KINDS = (
    "MCPGroup",
    "MCPServerEntry",
    "VirtualMCPServer",
    "MCPExternalAuthConfig",
    "MCPRemoteEndpoint",
    "MCPRemoteProxy",
)
HEADING = "## Reasons that this design cannot produce\n"
Words = set[tuple[str, str, str]]
"""Kind, condition type, "Status/Reason"."""


def vocabulary(kind: str) -> KindVocabulary:
    return next(vocabulary for vocabulary in VOCABULARIES if vocabulary.kind == kind)


def words(kind: str) -> Words:
    """All that may be said of a kind, but reasons that are copied from other conditions."""
    return {
        (kind, str(rule.type), f"{status}/{word}")
        for rule in vocabulary(kind).rules
        for status, reasons in rule.by_status
        for word in reasons
    }


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Words:
    """What the tests claim; they are collected, not run."""
    target = tmp_path_factory.mktemp("claims") / "claims.json"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    outcome = subprocess.run(
        [*command, "tests/envtest/controllers"],
        cwd=ROOT,
        env=os.environ | {"LIFECYCLE_CLAIMS": str(target)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    tests = json.loads(target.read_text(encoding="utf-8"))
    return {(kind, type_, state) for claims in tests.values() for kind, type_, state, _ in claims}


@pytest.fixture(scope="module")
def impossible() -> Words:
    """The table of docs/compatibility.md."""
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    table = page.partition(HEADING)[2].partition("\n## ")[0]
    found: Words = set()
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if cells[0] in KINDS:
            assert len(cells) == 3, row
            assert len(cells[2]) > 20, f"no argument: {row}"
            said = re.findall(r"`([A-Za-z]+)=(\w+/\w+)`", cells[1])
            assert said, f"no condition: {row}"
            found |= {(cells[0], type_, state) for type_, state in said}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_is_shown_by_a_test_or_argued_away(kind: str, claimed: Words, impossible: Words) -> None:
    assert sorted(words(kind) - claimed - impossible) == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_argued_away_that_a_test_shows_or_that_does_not_exist(
    kind: str, claimed: Words, impossible: Words
) -> None:
    argued = {word for word in impossible if word[0] == kind}
    assert sorted(argued & claimed) == []
    assert sorted(argued - words(kind)) == []


def test_copied_reasons_are_shown_where_they_may_stand_and_nowhere_else(claimed: Words) -> None:
    strangers = {word for word in claimed if word not in words(word[0])}
    for kind, type_, state in strangers:
        assert vocabulary(kind).rule(type_).mirrors, f"{kind} may not say {type_}={state}"
    assert {(kind, type_) for kind, type_, _ in strangers} >= {
        (kind, str(rule.type))
        for kind in KINDS
        for rule in vocabulary(kind).rules
        if rule.mirrors and not rule.family and rule.type != "DefaultAuthConfig"
    }
