"""Follows the samples by watches and shows what becomes of them: a line per change, a table in the end."""

from __future__ import annotations

import asyncio
import datetime as dt
import textwrap
import time
from collections.abc import Iterable, Sequence

from hack.controlplane import Kube
from hack.run.expect import Condition, Expectation, State

QUIET = 1.0
"""Seconds without any change after which all counts as settled."""

ADVICE = {
    "AuthzUpstreamSelectionWarning",
    "Degraded",
    "DeletionBlocked",
    "IdentitySynthesized",
    "SessionStorageWarning",
    "StatusTruncated",
}
"""Conditions that are good when they are False."""


class Follower:
    """Keeps the present state of all objects of the samples' kinds in a namespace."""

    def __init__(self, kube: Kube, namespace: str, expected: Sequence[Expectation]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._expected = expected
        self._states: dict[tuple[str, str], State] = {}
        self._changed = asyncio.Event()
        self._last_change = self._start = time.monotonic()

    async def follow(self) -> None:
        """Watch all kinds, and print a line per change, until cancelled."""
        kinds = {e.kind: e.api_version for e in self._expected}  # whichever version: they are the same objects
        async with asyncio.TaskGroup() as group:
            for kind, api_version in kinds.items():
                group.create_task(self._watch(api_version, kind))

    async def settled(self, timeout: float) -> bool:
        """Wait until everything is as expected and has been quiet for a second; False: not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (now := time.monotonic()) < deadline:
            quiet = now - self._last_change
            if quiet >= QUIET and not any(self.misses(e) for e in self._expected):
                return True
            self._changed.clear()
            try:
                async with asyncio.timeout(min(deadline - now, max(QUIET - quiet, 0.1))):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return False

    def misses(self, expected: Expectation) -> list[str]:
        """What is not as expected about one sample."""
        return expected.misses(self._states.get((expected.kind, expected.name)))

    def table(self) -> list[str]:
        """All samples with phase, conditions, age, and whether that is what was expected; messages below."""
        head = ("", "KIND", "NAME", "PHASE", "AGE", "CONDITIONS")
        rows, notes = [head], []
        for number, expected in enumerate(self._expected):
            state = self._states.get((expected.kind, expected.name))
            misses = self.misses(expected)
            mark = "FAIL" if misses else "ok"
            if state is None:
                rows.append((mark, expected.kind, expected.name, "-", "-", "is not there"))
                continue
            rows.append((mark, state.kind, state.name, state.phase or "-", _age(state), _conditions(state.conditions)))
            details = [f"{c.reason}: {c.message}" for c in _bad(state.conditions) if c.message]
            notes.append((number + 1, details + [f"NOT AS EXPECTED: {miss}" for miss in misses]))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[5]]) for row in rows]
        for number, details in reversed(notes):
            lines[number + 1 : number + 1] = [line for detail in details for line in _wrapped(detail)]
        return lines

    async def _watch(self, api_version: str, kind: str) -> None:
        while True:  # the server ends a watch after a while; the next one begins with what is there
            async for type_, body in self._kube.watch(api_version, kind, namespace=self._namespace):
                if type_ == "ERROR":
                    break
                self._see(State.of(body), gone=type_ == "DELETED")

    def _see(self, state: State, *, gone: bool) -> None:
        key = (state.kind, state.name)
        before = self._states.get(key)
        if gone:
            self._states.pop(key, None)
        elif before == state:
            return
        else:
            self._states[key] = state
        self._last_change = time.monotonic()
        self._changed.set()
        what = "deleted" if gone else f"{state.phase or '-':9} {_conditions(state.conditions)}"
        print(f"{self._last_change - self._start:7.2f} s  {state.kind + '/' + state.name:40} {what}", flush=True)


def _wrapped(detail: str) -> list[str]:
    return textwrap.wrap(detail, 110, initial_indent=" " * 8, subsequent_indent=" " * 10)


def _bad(conditions: Iterable[Condition]) -> list[Condition]:
    return [c for c in conditions if c.status != ("False" if c.type in ADVICE else "True")]


def _conditions(conditions: Sequence[Condition]) -> str:
    if not conditions:
        return "no conditions yet"
    bad = _bad(conditions)
    return ", ".join(f"{c.type}={c.status} ({c.reason})" for c in bad) if bad else f"all {len(conditions)} good"


def _age(state: State) -> str:
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(state.created)
    return f"{max(0, int(age.total_seconds()))}s"
