"""The protocol's own conformance suite: the backend directly, and the gateway in front of it, in the same run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
LONG = os.environ.get("TEST_LONG", "") not in ("", "0")
SCORED = {"2025-11-25": 30, "2026-07-28": 37}
_LINE = re.compile(r"^(✓|✗) ([a-z0-9-]+): (\d+) passed, (\d+) failed")

# A legacy backend asks by JSON-RPC requests, which have no keys; this scenario wants the key that a modern server would
# have chosen. Nothing but the name of the key is missing: the bridge itself has its own suite.
KEY_OF_THE_BACKEND = {"input-required-result-basic-elicitation"}

Run = Callable[[str, int], set[str]]


@pytest.fixture
def failing(node: str, tmp_path: Path) -> Run:
    """Runs one requirement set against a port; returns the scored scenarios that fail. All of them must have run."""

    def run(requirements: str, port: int) -> set[str]:
        listed = _run([node, str(SUITE), "list", "--requirements", requirements], tmp_path)
        server_part = listed.partition("Client scenarios")[0]
        scored = set(re.findall(r"^  - ([a-z0-9-]+)$", server_part, re.MULTILINE))
        assert len(scored) == SCORED[requirements], listed
        url = f"http://127.0.0.1:{port}/mcp"
        output = _run([node, str(SUITE), "server", "--url", url, "--requirements", requirements], tmp_path)
        verdicts = {}
        for line in output.splitlines():
            if found := _LINE.match(line):
                verdicts[found.group(2)] = found.group(1) == "✓" and int(found.group(3)) > 0
        missing = scored - verdicts.keys()
        assert not missing, f"{missing} did not run:\n{output[-3000:]}"
        return {name for name in scored if not verdicts[name]}

    return run


def _run(command: list[str], where: Path) -> str:
    # The suite's exit code also counts what is not scored (extensions), so the scored ones are counted here.
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, check=False).stdout


@pytest.mark.parametrize("requirements", SCORED)
def test_the_backend_scores_in_full_and_so_does_the_gateway_in_front_of_it(
    requirements, everything, gateway, failing, scale
):
    backend = everything("dual")
    front = gateway(everything=backend.port)
    for _ in range(scale(1, 20)):
        assert failing(requirements, backend.port) == set()
        assert failing(requirements, front.port) == set()


@pytest.mark.parametrize(
    ("era", "requirements", "expected"),
    [
        ("legacy", "2025-11-25", set()),
        ("modern", "2026-07-28", set()),
        ("modern", "2025-11-25", set()),
        ("legacy", "2026-07-28", KEY_OF_THE_BACKEND),
    ],
)
def test_a_backend_of_one_era_serves_clients_of_both(era, requirements, expected, everything, gateway, failing):
    front = gateway(everything=everything(era).port)
    assert failing(requirements, front.port) == expected


@pytest.mark.parametrize(("era", "requirements"), [("legacy", "2025-11-25"), ("modern", "2026-07-28")])
def test_a_server_scores_in_full_through_a_proxy(era, requirements, everything, proxy, failing):
    assert failing(requirements, proxy(everything(era).port).port) == set()


@pytest.mark.skipif(not LONG, reason="the short run has the pairs of one era")
@pytest.mark.parametrize(
    ("era", "requirements", "expected"),
    [
        ("dual", "2025-11-25", set()),
        ("dual", "2026-07-28", set()),
        ("modern", "2025-11-25", set()),
        ("legacy", "2026-07-28", KEY_OF_THE_BACKEND),
    ],
)
def test_a_server_of_two_eras_or_the_other_one_scores_through_a_proxy(
    era, requirements, expected, everything, proxy, failing
):
    assert failing(requirements, proxy(everything(era).port).port) == expected


@pytest.mark.parametrize("requirements", SCORED)
def test_a_server_written_with_the_sdk_alone_scores_in_full_through_the_gateway(
    requirements, sdk_only, gateway, failing, scale
):
    front = gateway(sdk=sdk_only.port)
    for port in scale([front.port], [sdk_only.port, front.port]):
        assert failing(requirements, port) == set()
