"""What documents name exists: headings, commands, flags, metrics, conditions, files; and every page can be found."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest
import yaml

from api.conditions import VOCABULARIES
from manager import parser as manager_parser
from runtime.observe.metrics import REGISTRY
from vmcp.command import parser as gateway_parser
from vmcp.observe.metrics import Metrics

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = [page for page in PAGES if not {"design", "reference", "CONTRIBUTING.md"} & {*page.parts}]
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Return every piece of code: spans, fenced blocks, indented blocks."""
    text = text_of(page)
    fenced = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [*fenced, *re.findall(r"`([^`\n]+)`", rest), *re.findall(r"^ {4,}(\S.*)$", rest, flags=re.MULTILINE)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def flags_of(parser: argparse.ArgumentParser, *commands: str) -> set[str]:
    """Return the flags that the help of a program, and of each of its commands, shows."""
    shown = io.StringIO()
    for words in [[command, "--help"] for command in commands] or [["--help"]]:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            parser.parse_args(words)
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]+", shown.getvalue()))


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_to_headings_lead_to_one(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text_of(page), flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
        target = page.parent / link if link else page
        assert anchor in anchors_of(target), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_targets_that_are_named_exist(page):
    makefile = text_of(ROOT / "Makefile")
    for code in code_of(page):
        for target in re.findall(r"(?:^|\n)\s*make ([a-z][\w-]*)", code):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_modules_and_scripts_that_are_named_exist(page):
    for code in code_of(page):
        for module in re.findall(r"python3? -m ([\w.]+)", code):
            assert importlib.util.find_spec(module) is not None, module
        for path in re.findall(r"(?:^|[\s(])((?:hack|config|tests|vmcp|runtime|controllers|api|docs)/[\w./-]+)", code):
            assert list(ROOT.glob(path.rstrip("/.") + "*")), path


@pytest.mark.parametrize("page", GUIDES, ids=ids)
def test_flags_of_our_programs_that_are_named_exist(page):
    known = flags_of(manager_parser()) | flags_of(gateway_parser(), "serve", "proxy", "validate")
    for code in code_of(page):
        if re.match(r"--[a-z]", code) or "-m vmcp" in code or "manager.py" in code:
            named = re.findall(r"(?<![\w-])(--[a-z][\w-]+)", code)
            assert not [flag for flag in named if flag not in known], code


@pytest.mark.parametrize("page", GUIDES, ids=ids)
def test_metrics_that_are_named_exist(page):
    known = {metric.name + suffix for metric in REGISTRY.collect() for suffix in SUFFIXES}
    known |= {metric.name + suffix for metric in Metrics().registry.collect() for suffix in SUFFIXES}
    prefixes = "controller_runtime|workqueue|rest_client|leader_election|runtime_|toolhive_mcp|toolhive_vmcp|vmcp_"
    for code in code_of(page):
        for name in re.findall(rf"(?<![\w/.-])((?:{prefixes})[a-z_]+)(?![\w./-])", code):
            assert name in known, name


@pytest.mark.parametrize("name", ["operations.md", "limits.md", "architecture.md", "quickstart.md", "deploying.md"])
def test_conditions_and_reasons_that_are_named_exist(name):
    known = {str(rule.type) for vocabulary in VOCABULARIES for rule in vocabulary.rules}
    known |= {
        str(word)
        for vocabulary in VOCABULARIES
        for rule in vocabulary.rules
        for _, reasons in rule.by_status
        for word in reasons
    }
    said = {
        word
        for code in code_of(ROOT / "docs" / name)
        for word in re.findall(r"^([A-Z][a-z]+(?:[A-Z]+[a-z]+)+)$", code)
        if not word.startswith(("MCP", "Virtual", "Service", "Client", "Config", "Role"))
    }
    assert said <= known, said - known


def test_every_page_can_be_reached_from_the_readme():
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            ahead += page.glob("*.md")
            continue
        links = re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", text_of(page))
        ahead += [
            found for link in links if (found := (page.parent / link).resolve()).suffix == ".md" or found.is_dir()
        ]
    missing = [ids(page) for page in (ROOT / "docs").rglob("*.md") if page not in seen]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_yaml_and_json_of_examples_can_be_read(page):
    for kind, block in re.findall(r"```(yaml|json)\n(.*?)```", text_of(page), flags=re.DOTALL):
        assert (list(yaml.safe_load_all(block)) if kind == "yaml" else json.loads(block)) is not None


def test_the_table_of_places_leads_to_files_that_exist():
    rows = re.findall(
        r"^\| (an? [^|]+|tools [^|]+) \| ([^|]+) \| ([^|]+) \|$", text_of(ROOT / "CONTRIBUTING.md"), re.MULTILINE
    )
    assert len(rows) >= 12
    for wish, go, look in rows:
        paths = [path for path in re.findall(r"`([\w./-]+)`", f"{go} {look}") if "/" in path]
        assert paths, wish
        missing = [path for path in paths if not (ROOT / path).exists()]
        assert not missing, f"{wish}: {missing}"
