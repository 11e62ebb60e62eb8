"""Requests by contender, from the API server's audit log: nobody can forget to count one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

WRITING = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class AuditLog:
    """The log, read from byte offsets on: a full run writes some hundred thousand lines."""

    path: Path

    def mark(self) -> int:
        """Return the present end of the log, for `requests`."""
        return self.path.stat().st_size

    def requests(self, user: str, since: int) -> Counter[str]:
        """Finished requests of a user by "verb resource[/subresource]"; watches and leases are left out.

        Args:
            user: the API user.
            since: from `mark`.
        """
        counts: Counter[str] = Counter()
        for event in self._events(since):
            if event["stage"] != "ResponseComplete" or event["user"]["username"] != user:
                continue
            reference = event.get("objectRef")
            if not reference or event["verb"] == "watch" or reference.get("resource") == "leases":
                continue
            name = reference["resource"] + (f"/{reference['subresource']}" if reference.get("subresource") else "")
            counts[f"{event['verb']} {name}"] += 1
        return counts

    def _events(self, since: int) -> Iterator[Mapping[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(since)
            for line in file:
                if line.endswith(b"\n"):  # the last one may be half written
                    yield orjson.loads(line)


def writes(requests: Counter[str], resource: str) -> int:
    """Writes to a resource such as `mcpgroups/status`."""
    return sum(requests[f"{verb} {resource}"] for verb in WRITING)


def by_verb(requests: Counter[str]) -> str:
    """All requests by verb, in one cell."""
    verbs: Counter[str] = Counter()
    for name, count in requests.items():
        verbs[name.partition(" ")[0]] += count
    return ", ".join(f"{verb} {count}" for verb, count in sorted(verbs.items())) or "none"
