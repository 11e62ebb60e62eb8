"""Our merge and `kubectl patch --local --type=strategic` agree on generated pairs, refusals included."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controllers.shared.workload.strategic_merge import POD_TEMPLATE_SPEC, StrategicMergeError, strategic_merge
from hack.controlplane import binaries

sys.path.insert(0, str(Path(__file__).parent))
from pod_templates import template, with_directives

ORIGINALS_PER_PATCH = 10


@pytest.fixture(scope="session")
def kubectl_path() -> Path:
    return binaries.ensure().path("kubectl")


def kubectl_patch(kubectl: Path, folder: Path, originals: list[dict], patch: dict) -> list[dict] | None:
    """What kubectl makes of one patch on several templates; None when it refuses any of them."""
    folder.mkdir()
    items = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": f"t{i}"}, "template": original}
        for i, original in enumerate(originals)
    ]
    (folder / "originals.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (folder / "patch.json").write_text(json.dumps({"template": patch}))
    command = [kubectl, "patch", "--local", "--type=strategic", "-o", "json"]
    command += ["-f", folder / "originals.json", "--patch-file", folder / "patch.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        return None
    decoder, text, at, found = json.JSONDecoder(), done.stdout, 0, []
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        found += document["items"] if document["kind"] == "List" else [document]
        at += len(text[at:]) - len(text[at:].lstrip())
    return [document.get("template", {}) for document in found]


def ours(original: dict, patch: dict) -> dict | None:
    try:
        return strategic_merge(original, patch, POD_TEMPLATE_SPEC)
    except StrategicMergeError:
        return None


def settled(value: Any) -> Any:
    """kubectl's answer without the nulls and directives that it leaves inside new list elements."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v is not None and not k.startswith("$")}
        return {k: settled(v) for k, v in kept.items() if not (isinstance(v, dict) and "$patch" in v)}
    if isinstance(value, list):
        return [settled(v) for v in value if not (isinstance(v, dict) and "$patch" in v)]
    return value


def test_generated_pairs_merge_as_kubectl_merges_them(scale: Any, kubectl_path: Path, tmp_path: Path) -> None:
    r = Random(scale.seed)
    cases = []
    for n in range(scale(200, 2000) // ORIGINALS_PER_PATCH):
        patch = with_directives(r, template(r), rate=0.0 if n % 4 == 0 else 0.3)
        cases.append((tmp_path / str(n), [template(r) for _ in range(ORIGINALS_PER_PATCH)], patch))
    with ThreadPoolExecutor(2) as pool:
        theirs = list(pool.map(lambda case: kubectl_patch(kubectl_path, *case), cases))
    seen: Counter[str] = Counter()
    for (folder, originals, patch), results in zip(cases, theirs, strict=True):
        mine = [ours(original, patch) for original in originals]
        if results is None:
            # kubectl stops at the first refusal: at least one of ours must refuse as well
            assert None in mine, f"kubectl refuses, we do not: {(folder / 'patch.json').read_text()}"
            seen["refused"] += 1
            continue
        for original, result, expected in zip(originals, mine, results, strict=True):
            assert result == settled(expected), json.dumps({"original": original, "patch": patch})
            seen["merged"] += 1
    assert seen["merged"] >= scale(200, 2000) * 0.8, seen
