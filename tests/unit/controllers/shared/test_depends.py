"""A kind that a controller depends on is declared once: permissions, informers and watches are made of one row."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest

from controllers.shared.configkind import ConfigKind
from controllers.shared.depends import Depends, rules_of
from controllers.shared.resources import CONFIG_MAP, ENTRY, POD, SECRET
from manager import CONTROLLERS

LOOKING = {"get", "list", "watch"}


def rows_of(name: str) -> tuple[Depends, ...]:
    controller: Any = importlib.import_module(f"controllers.{name}.controller")
    kind = getattr(controller, "KIND", None)
    return kind.users.depends() if isinstance(kind, ConfigKind) else controller.DEPENDS


@pytest.mark.parametrize("name", CONTROLLERS)
def test_no_kind_stands_in_two_rows_of_a_controller(name: str) -> None:
    kinds = Counter(row.kind for row in rows_of(name))
    assert kinds
    assert [str(kind) for kind, count in kinds.items() if count > 1] == []


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_kind_that_a_controller_may_look_at_is_one_of_its_rows_or_its_own(name: str) -> None:
    controller: Any = importlib.import_module(f"controllers.{name}.controller")
    rows = {(row.kind.group, row.kind.plural) for row in rows_of(name)}
    looked_at = {
        (rule.group, resource)
        for rule in controller.RULES
        if not rule.granted and LOOKING & set(rule.verbs)
        for resource in rule.resources
    }
    assert rows <= looked_at
    assert len(looked_at - rows) <= 1, "the kind itself"


@pytest.mark.parametrize(
    ("row", "verbs"),
    [
        (Depends(ENTRY, why="w"), [("get", "list", "watch")]),
        (Depends(POD, verbs=("list",), why="w"), [("list",)]),
        (Depends(POD, metadata_only=True, why="w"), [("list", "watch")]),
        (Depends(SECRET, why="w", content="c"), [("list", "watch"), ("get",)]),
        (Depends(CONFIG_MAP, why="w", content="c"), [("list", "watch"), ("get",)]),
    ],
)
def test_a_row_takes_no_more_permissions_than_looking_needs(row: Depends, verbs: list[tuple[str, ...]]) -> None:
    assert [tuple(rule.verbs) for rule in rules_of([row])] == verbs
