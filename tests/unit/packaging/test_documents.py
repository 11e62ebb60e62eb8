"""Links between the documents lead somewhere, and no lock file names a registry."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_a_file(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    broken = [link for link in links if not re.match(r"[a-z]+:", link) and not (page.parent / link).exists()]
    assert not broken


def test_the_readme_names_the_commands_that_a_fresh_clone_runs():
    block = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- fresh-clone -->")[2].split("```")[1]
    targets = re.findall(r"^make (\S+)", block, re.MULTILINE)
    assert targets == ["run", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:.*##", makefile, re.MULTILINE) for target in targets)
    listed = subprocess.run([ROOT / "hack/fresh_clone.sh", "--list"], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines() == ["make run ONCE=1", "make test"]


@pytest.mark.parametrize(
    "lock",
    [*(ROOT / "locks").glob("*.txt"), *ROOT.glob("tests/*/package-lock.json"), *ROOT.glob("hack/*/package-lock.json")],
    ids=lambda lock: str(lock.relative_to(ROOT)),
)
def test_a_lock_file_names_no_registry(lock):
    text = lock.read_text(encoding="utf-8")
    assert "--index-url" not in text
    assert not re.search(r'"resolved": "https?:', text)
