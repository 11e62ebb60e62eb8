"""The other SDK lines as clients: Python 1.30, TypeScript 1.x and 2.x, each before backends of both eras.

Each walks through everything in a process of its own (`clients/`) and prints what it saw.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parent / "clients"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@pytest.fixture
def walk(request: pytest.FixtureRequest, everything, gateway):
    """Walks with one client through a gateway before one backend; returns the client's facts."""

    def run(client: str, era: str) -> dict[str, Any]:
        front = gateway(everything=everything(era).port)
        runtime = request.getfixturevalue("python_1" if client.endswith(".py") else "node")
        command = [runtime, str(CLIENTS / client), f"http://127.0.0.1:{front.port}/mcp"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return run


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize(
    ("client", "version"), [("python1.py", LEGACY), ("typescript1.mjs", LEGACY), ("typescript2.mjs", MODERN)]
)
def test_a_client_of_another_sdk_line_walks_through_everything(client, version, era, walk):
    facts = walk(client, era)
    assert facts["version"] == version
    assert facts["server"] == "gateway"
    assert facts["echo"] == {"x": 1}
    assert facts["read"] == "This is the content of the static text resource."
    assert facts["prompt"] == "This is a simple prompt for testing."
    assert facts["complete"] == ["paris", "park", "party"]
    assert facts["progress"] == [0, 50, 100]
    assert facts["asked"] == ["Who?", "Say"]
    assert '"username": "mine"' in facts["elicited"]
    assert facts["sampled"] == "LLM response: a sampled answer"
    assert facts["roots"] == "roots: file:///home"
    assert facts["tools_after_change"] == facts["tools"] + 1
    assert facts["cancelled"] is True
    if version == LEGACY:
        assert facts["logged"] == ["warning", "error"]
