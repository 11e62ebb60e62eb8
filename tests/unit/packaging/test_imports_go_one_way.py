"""Imports between files go one way: no circles, and no package imports one that stands above it.

Read from the sources, so that an import inside a function or under `TYPE_CHECKING` counts as much as any other: it ties
the two files together all the same, whoever has to understand one of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("api", "membership", "runtime", "controllers", "vmcp", "manager", "hack")
ABOVE: Mapping[str, set[str]] = {
    "api": set(PACKAGES) - {"api"},
    "runtime": set(PACKAGES) - {"runtime"},
    "membership": set(PACKAGES) - {"membership", "api"},
    "controllers": {"vmcp", "manager", "hack"},
    "vmcp": {"controllers", "manager", "hack"},
    "manager": {"hack"},
}
"""Package -> what it must not import; `hack` may import all."""
KNOWN_CIRCLES: set[frozenset[str]] = set()
"""Circles that are still there. This list only ever becomes shorter."""
ONE_WAY_FOLDERS = ("api", "controllers", "hack", "membership", "runtime", "vmcp")
"""Packages whose folders import each other one way only, too."""
TOP_FILES_APART = "vmcp"
"""Here the files at the top stand for themselves: those that assemble the program, and those that everything uses."""
KNOWN_FOLDER_CIRCLES: set[frozenset[str]] = {
    # Folders that the files beside them use, and that use what else is in the folder above; the files go one way.
    frozenset({"api/contract", "api/contract/validation"}),
    frozenset({"vmcp/backend", "vmcp/backend/legacy", "vmcp/backend/modern"}),
}
"""Circles of folders that are still there. This list only ever becomes shorter."""

Graph = Mapping[str, set[str]]


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    """Name every module below `root`; a package stands for its `__init__`."""
    found = {}
    for package in packages:
        single = root / f"{package}.py"
        for path in [single] if single.exists() else sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that one imports, wherever in it the import stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield from [full] if full in known else [base] if base in known else []


def graph_of(known: Mapping[str, Path]) -> dict[str, set[str]]:
    return {name: set(imported(name, path, known)) - {name} for name, path in known.items()}


def circles(graph: Graph) -> list[frozenset[str]]:
    """Return every set of two or more nodes of which each leads to each (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            start = stack.index(node)
            if len(stack) - start > 1:
                found.append(frozenset(stack[start:]))
            del stack[start:]

    for node in graph:
        if node not in number:
            visit(node)
    return found


def described(circle: frozenset[str], graph: Graph) -> str:
    ties = (f"  {name} imports {', '.join(sorted(graph[name] & circle))}" for name in sorted(circle))
    return "\n".join(["a circle of imports:", *ties])


def folder_of(path: Path) -> str:
    folder = path.relative_to(ROOT).parent.as_posix()
    return f"{folder}/{path.name}" if folder == TOP_FILES_APART else folder


def folders_of(graph: Graph, known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return which folder imports which; the names are their paths below the root."""
    folders: dict[str, set[str]] = {}
    for name, others in graph.items():
        own = folder_of(known[name])
        folders.setdefault(own, set()).update({folder_of(known[other]) for other in others} - {own})
    return folders


@pytest.fixture(scope="module")
def known() -> dict[str, Path]:
    return modules(ROOT)


@pytest.fixture(scope="module")
def graph(known: dict[str, Path]) -> Graph:
    return graph_of(known)


def test_files_import_each_other_in_no_circle_that_is_new(graph: Graph) -> None:
    new = [described(circle, graph) for circle in circles(graph) if circle not in KNOWN_CIRCLES]
    assert not new, "\n".join(new)


def test_the_list_of_known_circles_names_none_that_is_gone(graph: Graph) -> None:
    gone = KNOWN_CIRCLES - set(circles(graph))
    assert not gone, f"take out of KNOWN_CIRCLES, nothing ties them in one circle any more: {[sorted(c) for c in gone]}"


def test_folders_import_each_other_in_no_circle_that_is_new(graph: Graph, known: dict[str, Path]) -> None:
    own = {name: others for name, others in graph.items() if name.split(".")[0] in ONE_WAY_FOLDERS}
    inside = {name: {other for other in others if other in own} for name, others in own.items()}
    folders = folders_of(inside, known)
    found = circles(folders)
    new = [described(circle, folders) for circle in found if circle not in KNOWN_FOLDER_CIRCLES]
    assert not new, "\n".join(new)
    gone = KNOWN_FOLDER_CIRCLES - set(found)
    assert not gone, f"take out of KNOWN_FOLDER_CIRCLES: {[sorted(c) for c in gone]}"


def test_no_package_imports_one_that_stands_above_it(graph: Graph) -> None:
    up = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in sorted(others)
        if other.split(".")[0] in ABOVE.get(name.split(".")[0], ())
    ]
    assert not up, "\n".join(up)


@pytest.mark.parametrize(
    "last",
    [
        "from p.sub import a\n",
        "def f():\n    import p.sub.a\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import x\n",
        "from . import a\n",
    ],
    ids=["plain", "inside a function", "for types only", "relative"],
)
def test_a_circle_is_found_and_named_however_the_import_is_written(last: str, tmp_path: Path) -> None:
    folder = tmp_path / "p" / "sub"
    folder.mkdir(parents=True)
    sources = {"__init__": "", "a": "from p.sub.b import x\n", "b": "from p.sub import c\n", "c": last, "d": "import p"}
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    made = graph_of(modules(tmp_path, ("p",)))
    (circle,) = circles(made)
    assert circle == {"p.sub.a", "p.sub.b", "p.sub.c"}
    assert "p.sub.c imports p.sub.a" in described(circle, made)
