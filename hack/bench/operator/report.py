"""Tables of the results, and what they say about the budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hack.bench.operator.audit import WRITING, by_verb, writes
from hack.bench.operator.contenders import Contender
from hack.bench.operator.costs import StaleReads, WriteCost
from hack.bench.operator.scenarios import Figures, Steady
from hack.bench.operator.world import Size

JUDGED = "ours-native"
"""The contender whose figures are held against the budgets; the other dialect is judged for its rollouts only."""
ONE_GROUP, MANY_GROUPS = 1.25, 1.45
"""Budgets of the time until a burst is settled, as multiples of the floor of the same run."""
RSS_BUDGET = {"1x1000": 100.0, "50x40": 100.0, "1x10000": 150.0}
"""MiB."""


@dataclass
class Verdicts:
    """Budgets and figures, in the order in which they were measured."""

    lines: list[tuple[str, float, float]] = field(default_factory=list)
    settled: dict[tuple[str, str], float] = field(default_factory=dict)

    def at_most(self, what: str, value: float, budget: float) -> None:
        """Note a figure that should not be above its budget."""
        self.lines.append((what, value, budget))

    def burst(self, name: str, size: Size, figures: Figures, floor: float) -> None:
        """Note what a burst says."""
        key = str(size)
        self.settled[name, key] = figures.settle
        updates = deployment_updates(figures)
        if name == "ours-toolhive" and key == "1x1000" and not figures.failure:
            self.at_most(f"{key}: Deployment updates, toolhive dialect", updates, 2)
        if name != JUDGED:
            return
        times = math.inf if figures.failure else figures.settle / floor
        self.at_most(f"{key}: settled / floor", times, ONE_GROUP if size.groups == 1 else MANY_GROUPS)
        if figures.failure:
            return
        # The last decimal is the group's and the gateway's own objects.
        self.at_most(f"{key}: writes per entry", round(all_writes(figures) / size.total, 1), 1.0)
        if key in RSS_BUDGET:
            self.at_most(f"{key}: RSS, MiB", figures.memory, RSS_BUDGET[key])
        if key == "1x1000":
            self.at_most(f"{key}: CPU per entry, ms", figures.cpu / size.total * 1000, 1.0)
        if key == "1x1000":
            self.at_most(f"{key}: Deployment updates, native dialect", updates, 0)
        if key == "50x40":
            self.at_most(f"{key}: MCPGroup status writes", writes(figures.requests, "mcpgroups/status"), 100)

    def steady(self, name: str, size: Size, result: Steady) -> None:
        """Note what the steady part says."""
        if name == JUDGED and not result.failure:
            self.at_most(f"{size}: requests while idle", result.idle.requests.total(), 0)
            self.at_most(f"{size}: change to config, p99, ms", result.churn.percentile(0.99) * 1000, 100)

    def show(self) -> None:
        """Print them."""
        self._ratios()
        print("\n## Budgets\n| what | measured | budget | |\n|---|---|---|---|")
        for what, value, budget in self.lines:
            verdict = "not measured" if math.isnan(value) else "holds" if value <= budget else "MISSED"
            print(f"| {what} | {value:.2f} | {budget:g} | {verdict} |")

    def _ratios(self) -> None:
        of = self.settled.get
        small, large = of((JUDGED, "1x1000"), math.nan), of((JUDGED, "1x4000"), math.nan)
        if (JUDGED, "1x4000") in self.settled:
            self.at_most("t(1x4000) / t(1x1000)", large / small, 4.3)
        for (name, key), seconds in self.settled.items():
            if name == "kopf":
                self.at_most(f"{key}: ours / kopf (at least 10x faster)", of((JUDGED, key), math.nan) / seconds, 0.1)


def status_writes(figures: Figures) -> int:
    """Status writes of entries."""
    return writes(figures.requests, "mcpserverentries/status")


def all_writes(figures: Figures) -> int:
    """Writes of any kind, events included."""
    return sum(count for name, count in figures.requests.items() if name.partition(" ")[0] in WRITING)


def deployment_updates(figures: Figures) -> int:
    """Writes to Deployments after the burst began; they exist before it."""
    return writes(figures.requests, "deployments")


def burst_head(size: Size, floor: Figures) -> None:
    """Head of a burst's table."""
    print(
        f"\n## Burst {size}: {size.total} entries at once; floor {floor.settle:.2f} s, "
        f"{_per_entry(floor.server, size)} ms of the server's CPU per entry\n"
        "| contender | settled s | x floor | x first | CPU ms per entry | server's CPU ms per entry | RSS MiB "
        "| reconciles per entry | writes per entry | of these status | MCPGroup status "
        "| config writes | Deployment updates | requests by verb |\n" + "|---" * 14 + "|"
    )


def burst_line(contender: Contender, size: Size, figures: Figures, floor: Figures, first: float) -> None:
    """One contender's line."""
    if figures.failure:
        done = f"status writes {status_writes(figures)}, {by_verb(figures.requests)}"
        print(f"| {contender.name} | {_flat(figures.failure)} ({done}) |", flush=True)
        return
    print(
        f"| {contender.name} | {figures.settle:.2f} | {figures.settle / floor.settle:.2f} "
        f"| {figures.settle / first:.1f} | {_per_entry(figures.cpu, size)} | {_per_entry(figures.server, size)} "
        f"| {figures.memory:.0f} | {_known(figures.reconciles / size.total)} "
        f"| {all_writes(figures) / size.total:.2f} | {status_writes(figures) / size.total:.2f} "
        f"| {writes(figures.requests, 'mcpgroups/status')} | {figures.config_writes} | {deployment_updates(figures)} "
        f"| {by_verb(figures.requests)} |",
        flush=True,
    )


def _per_entry(seconds: float, size: Size) -> str:
    return _known(seconds / size.total * 1000)


def start_table(results: Iterable[tuple[Contender, Figures]]) -> None:
    """Starts with a single entry."""
    print(
        "\n## Start: process to first status, one entry, least of 3\n"
        "| contender | s | CPU s | RSS MiB |\n|---|---|---|---|"
    )
    for contender, figures in results:
        cells = _flat(figures.failure) or f"{figures.settle:.2f} | {figures.cpu:.2f} | {figures.memory:.0f}"
        print(f"| {contender.name} | {cells} |", flush=True)


def steady_head(size: Size, floor: float, seconds: float, rate: float) -> None:
    """Head of the steady table."""
    print(
        f"\n## Steady {size}: burst, cold start, {seconds:.0f} s idle, {rate:.0f} changes/s for {seconds:.0f} s; "
        f"floor of the burst {floor:.2f} s\n"
        "| contender | burst s | x floor | cold start s | its CPU s | its requests | its RSS MiB | idle requests "
        "| idle CPU s | change p50 ms | p99 ms | seen | churn CPU s | its requests | RSS MiB |\n" + "|---" * 15 + "|"
    )


def steady_line(contender: Contender, result: Steady, floor: float) -> None:
    """One contender's line, as far as it came."""
    burst, cold, idle, churn = result.burst, result.cold, result.idle, result.churn
    print(
        f"| {contender.name} | {burst.settle:.2f} | {burst.settle / floor:.2f} | {cold.settle:.2f} | {cold.cpu:.2f} "
        f"| {by_verb(cold.requests)} | {cold.memory:.0f} | {idle.requests.total()} | {idle.cpu:.2f} "
        f"| {churn.percentile(0.5) * 1000:.0f} | {churn.percentile(0.99) * 1000:.0f} | {len(churn.latencies)} "
        f"| {churn.cpu:.1f} | {by_verb(churn.requests)} | {churn.memory:.0f} |",
        flush=True,
    )
    if result.failure:
        print(f"| {contender.name} | ended early: {_flat(result.failure)} |", flush=True)


def write_table(costs: list[WriteCost]) -> None:
    """Ways to write a status."""
    base = costs[0]
    print(
        "\n## Writing a status of 6 conditions, 32 in flight\n"
        "| way | writes/s | server CPU ms per write | x merge patch | client CPU ms | object bytes afterwards |\n"
        "|---|---|---|---|---|---|"
    )
    for cost in costs:
        print(
            f"| {cost.way} | {cost.per_second:.0f} | {cost.server_ms:.2f} | {cost.server_ms / base.server_ms:.2f} "
            f"| {cost.client_ms:.2f} | {cost.size} |",
            flush=True,
        )


def reads_table(reads: list[StaleReads]) -> None:
    """Reads after writes."""
    print(
        "\n## Cached reads directly after an own write, 8 in flight\n"
        "| cache | reads | stale | share |\n|---|---|---|---|"
    )
    for read in reads:
        print(f"| {read.cache} | {read.reads} | {read.stale} | {read.share:.1%} |", flush=True)


def _known(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
