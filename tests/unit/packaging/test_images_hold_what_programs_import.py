"""Each image installs one lock file and copies some folders: together they must be all that its program imports."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DISTRIBUTIONS = packages_distributions()


def copied(dockerfile: str) -> list[Path]:
    text = (ROOT / dockerfile).read_text(encoding="utf-8")
    sources = re.findall(r"^COPY (\S+) \S+$", text, re.MULTILINE)
    return [ROOT / source for source in sources if not source.startswith("locks/")]


def locked(dockerfile: str) -> set[str]:
    (lock,) = re.findall(r"^COPY (locks/\S+) ", (ROOT / dockerfile).read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for file in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"__future__"}


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.vmcp"])
def test_every_import_is_copied_or_locked(dockerfile):
    paths = copied(dockerfile)
    own = {path.stem for path in paths}
    names = locked(dockerfile)
    missing = {
        module
        for path in paths
        for module in imports(path) - own
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in DISTRIBUTIONS.get(module, [])} & names
    }
    assert not missing
    assert len(names) > 10


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.vmcp"])
def test_what_the_image_copies_is_not_ignored(dockerfile):
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {path.name for path in copied(dockerfile)} <= kept


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.vmcp"])
def test_the_image_runs_as_somebody_else_than_root(dockerfile):
    users = re.findall(r"^USER (\d+):", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
