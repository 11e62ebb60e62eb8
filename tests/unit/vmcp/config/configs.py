"""A small valid configuration for tests to bend."""

from __future__ import annotations

from typing import Any

import yaml


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "gw",
        "groupRef": "tools",
        "backends": [
            {"name": "gh", "url": "https://gh.example/mcp", "transport": "streamable-http"},
            {"name": "old", "url": "http://old.example:8080/sse", "transport": "sse"},
        ],
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
        "aggregation": {
            "conflictResolution": "prefix",
            "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
        },
    }
    base.update(changes)
    return {key: value for key, value in base.items() if value is not None}


def text(**changes: Any) -> bytes:
    return yaml.safe_dump(document(**changes)).encode()
