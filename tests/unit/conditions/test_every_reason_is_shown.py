"""Every reason of a controlled kind is shown on a real server, or the compatibility page says why it cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.conditions import VOCABULARIES, KindVocabulary

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
PROOFS = PAGE.partition("## Reasons that this design cannot produce")[2]
CONTROLLED = [vocabulary for vocabulary in VOCABULARIES if vocabulary.controlled]


def _shown(kind: str) -> str:
    tests = (ROOT / "tests" / "envtest" / "controllers" / kind.lower()).glob("test_*.py")
    return "\n".join(path.read_text(encoding="utf-8") for path in tests)


@pytest.mark.parametrize("vocabulary", CONTROLLED, ids=lambda vocabulary: vocabulary.kind)
def test_every_reason_has_a_test_on_a_real_server_or_an_argument(vocabulary: KindVocabulary):
    shown = _shown(vocabulary.kind)
    rows = "\n".join(line for line in PROOFS.splitlines() if vocabulary.kind in line)
    silent = [
        f"{rule.type} {status}/{reason}"
        for rule in vocabulary.rules
        for status, reasons in (("True", rule.true), ("False", rule.false))
        for reason in reasons
        if f"{status}/{reason}" not in shown
        and not re.search(rf"\b{reason}\b", rows)
        and not re.search(rf"(type |^`){rule.type}\b", rows, re.MULTILINE)
    ]
    assert silent == []
