"""A class name means one thing; those that repeat do so by a rule of docs/design/029-names-and-repetition.md."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRODUCT = ("api", "membership", "runtime", "controllers", "vmcp", "manager.py")

OF_KUBERNETES = {
    "Condition": {"api/common/model.py", "runtime/util/conditions.py"},
    "OwnerReference": {"api/common/model.py", "runtime/wire/record.py"},
}
"""Types of Kubernetes that the API describes and the runtime, which does not know the API, reads."""


@cache
def public_classes() -> dict[str, list[str]]:
    """Name -> the files that define a class of this name, at any depth."""
    found: dict[str, list[str]] = defaultdict(list)
    for place in PRODUCT:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(file.relative_to(ROOT)))
    return found


def is_on_purpose(name: str, files: list[str]) -> bool:
    """Whether a rule says why the name repeats."""
    folders = sorted("/".join(file.split("/")[:2]) for file in files)
    if set(files) == OF_KUBERNETES.get(name):
        return True
    if folders in (
        ["api/v1alpha1", "api/v1beta1"],  # one kind in two versions
        ["api/common", "api/contract"],  # a section of the API, and of the document that is written from it
        ["api/contract", "api/v1beta1"],
    ):
        return True
    stages = all(file.startswith("controllers/") and file.endswith(("/decide.py", "/snapshot.py")) for file in files)
    return name == "Snapshot" and stages and len(set(files)) == len(files)


def test_a_class_name_that_repeats_does_so_on_purpose():
    repeated = {name: files for name, files in public_classes().items() if len(files) > 1}
    assert {name: files for name, files in repeated.items() if not is_on_purpose(name, files)} == {}


def test_the_rules_for_names_that_repeat_are_in_use():
    found = public_classes()
    for name in ("MCPGroup", "ToolOverride", "RoleMapping", "Snapshot", *OF_KUBERNETES):
        assert len(found[name]) > 1, name
    assert not is_on_purpose("Outcome", ["controllers/shared/workload/writing.py", "runtime/control/outcome.py"])
    assert not is_on_purpose("Snapshot", ["controllers/mcpgroup/decide.py", "vmcp/core/snapshot.py"])
