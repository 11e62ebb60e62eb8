"""Named health checks, in the form that `kubectl get --raw /readyz?verbose` users know.

`/healthz` says "restart me" when red, `/readyz` says "do not count on me". A reason is logged when a check changes and
never sent to the caller, who may be anybody.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger("health")

Check = Callable[[], str | Awaitable[str | None] | None]
"""None when all is well, else a sentence that says what is wrong."""


class Checks:
    """The checks behind one endpoint. With none of its own it still answers for the process (`ping`)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._checks: dict[str, Check] = {}
        self._failing: dict[str, str] = {}

    def add(self, name: str, check: Check) -> None:
        """Register a check. Raises ValueError for a name that is taken."""
        if name in self._checks:
            raise ValueError(f"{self.name}: there already is a check named {name}")
        self._checks[name] = check

    @property
    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._checks) or ["ping"]

    async def run(self, names: Iterable[str]) -> dict[str, bool]:
        """Run these checks. A check that raises has failed."""
        return {name: await self._run_one(name) for name in names}

    async def _run_one(self, name: str) -> bool:
        check = self._checks.get(name)
        if check is None:
            return True  # ping: that we answer is the answer
        try:
            outcome = check()
            reason = await outcome if inspect.isawaitable(outcome) else outcome
        except Exception as error:  # noqa: BLE001  a broken check is a failing check
            reason = f"{type(error).__name__}: {error}"
        if reason != self._failing.get(name):
            if reason is None:
                log.info("health check recovered", endpoint=self.name, check=name)
            else:
                log.warning("health check failed", endpoint=self.name, check=name, reason=reason)
        if reason is None:
            self._failing.pop(name, None)
        else:
            self._failing[name] = reason
        return reason is None


async def report(checks: Checks, *, exclude: Iterable[str] = (), verbose: bool = False) -> tuple[int, str]:
    """Run the checks of an endpoint and render its answer as the API server does.

    Returns:
        HTTP status and body: "ok", or with `verbose` and on failure one line per check.
    """
    excluded = set(exclude)
    results = await checks.run(name for name in checks.names if name not in excluded)
    healthy = all(results.values())
    if healthy and not verbose:
        return 200, "ok"
    lines = [f"[+]{name} ok" if good else f"[-]{name} failed: reason withheld" for name, good in results.items()]
    lines += [f"[+]{name} excluded: ok" for name in checks.names if name in excluded]
    lines += [f"warn: check {name!r} cannot be excluded: no such check" for name in sorted(excluded - {*checks.names})]
    lines.append(f"{checks.name} check {'passed' if healthy else 'failed'}")
    return (200 if healthy else 500), "\n".join(lines) + "\n"
