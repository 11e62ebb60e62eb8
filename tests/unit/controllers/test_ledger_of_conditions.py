"""The ledger behind `shows` takes nothing for granted: a condition has to be there, and then not to be there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.envtest.controllers.lifecycles import Claim, Ledger


def entry(uid: str = "u", **said: str) -> dict[str, Any]:
    conditions = []
    for type_, state in said.items():
        status, _, reason = state.partition("/")
        conditions.append({"type": type_.replace("_", "-"), "status": status, "reason": reason})
    return {"kind": "MCPServerEntry", "metadata": {"uid": uid}, "status": {"conditions": conditions}}


def claim(text: str, *, gone: bool = False) -> Claim:
    return Claim.parse("MCPServerEntry", text, gone=gone)


GOOD, BAD = claim("Valid=True/Good"), claim("Valid=False/Bad")


def ledger(*versions: tuple[str, dict[str, Any]]) -> Ledger:
    made = Ledger()
    for event, found in versions:
        made.see(event, found)
    return made


async def test_what_changes_or_is_removed_has_ended_and_what_stands_has_not() -> None:
    changed = ledger(("ADDED", entry(Valid="False/Bad")), ("MODIFIED", entry(Valid="True/Good")))
    await changed.holds({BAD}, timeout=0)
    removed = ledger(("ADDED", entry(Valid="False/Bad")), ("MODIFIED", entry()))
    await removed.holds({BAD}, timeout=0)
    with pytest.raises(AssertionError, match="MCPServerEntry Valid=True/Good"):
        await changed.holds({BAD, GOOD}, timeout=0.01)


async def test_another_object_or_the_end_of_the_object_does_not_count() -> None:
    others = ledger(("ADDED", entry("u", Valid="False/Bad")), ("ADDED", entry("w", Valid="True/Good")))
    assert others.ended == set()
    deleted = ledger(("ADDED", entry(Valid="False/Bad")), ("DELETED", entry(Valid="False/Bad")))
    assert deleted.ended == {claim("Valid=False/Bad", gone=True)}


async def test_a_condition_that_is_named_after_an_object_counts_for_its_family() -> None:
    named = ledger(("ADDED", entry(DiscoveredAuthConfig_a="False/Bad")), ("MODIFIED", entry()))
    assert named.ended == {claim("DiscoveredAuthConfig=False/Bad")}
