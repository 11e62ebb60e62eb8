"""Command line of the operator's benchmarks. All contenders meet the same control plane, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from hack.bench.operator.contenders import ROOT, Contender, kopf_peer, other, ours
from hack.bench.operator.scenarios import Bench, Figures
from hack.bench.operator.world import Size
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.rest import Kube

BUDGET = {"1x200": 1.0, "1x1000": 3.0, "1x4000": 12.0, "50x40": 6.0}
STATUS = ("mcpserverentries/status", "mcpgroups/status", "virtualmcpservers/status", "configmaps", "deployments")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench.operator", description=__doc__)
    parser.add_argument("--bursts", default="1x200,1x1000,50x40", help="GROUPSxENTRIES,... (default: %(default)s)")
    parser.add_argument("--steady", default="100x100", help="GROUPSxENTRIES for cold start, idle and churn; '' to skip")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of idle and of churn (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=50.0, help="changes per second in churn (default: %(default)s)")
    parser.add_argument("--peer", action="append", default=[], metavar="PATH", help="another operator binary")
    parser.add_argument("--only", default="", help="names of contenders, comma separated (default: all)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds before a contender is given up")
    parser.add_argument("--full", action="store_true", help="all sizes of the budgets, up to 10,000 entries in a group")
    return parser.parse_args()


async def main() -> None:
    """Run what the command line asks for and print the tables."""
    arguments = parse()
    bursts = "1x200,1x1000,1x4000,50x40,100x100,1x10000" if arguments.full else arguments.bursts
    contenders = [ours("native"), ours("toolhive"), *([peer] if (peer := kopf_peer()) else [])]
    contenders += [other(path) for path in arguments.peer]
    chosen = [c for c in contenders if not arguments.only or c.name in arguments.only.split(",")]
    print("Starting a control plane of our own (about 5 s) ...", flush=True)
    options = Options(audit="Metadata", crds=(ROOT / "config" / "crd" / "bases",))
    with tempfile.TemporaryDirectory() as logs, ControlPlane(options) as plane:
        async with Kube(plane.handle.kubeconfig) as kube:
            bench = Bench(plane.handle, kube, Path(logs), arguments.timeout)
            for text in filter(None, bursts.split(",")):
                await burst(bench, chosen, _size(text))
            if arguments.steady:
                await steady(bench, chosen, _size(arguments.steady), arguments)


async def burst(bench: Bench, contenders: list[Contender], size: Size) -> None:
    """One burst size, all contenders."""
    floor = await bench.floor(size)
    print(
        f"\n## Burst {size}: {size.total} entries at once (floor {floor:.2f} s, budget {BUDGET.get(str(size), '-')} s)"
    )
    print(
        "| contender | settled s | x floor | x first | CPU s | RSS MiB | " + " | ".join(STATUS) + " | other requests |"
    )
    print("|---" * (7 + len(STATUS)) + "|")
    first: float | None = None
    for contender in contenders:
        figures = await bench.burst(contender, size)
        if figures.failure:
            print(f"| {contender.name} | {figures.failure.strip()[-300:]} |", flush=True)
            continue
        first = first or figures.settle
        print(
            f"| {contender.name} | {figures.settle:.2f} | {figures.settle / floor:.2f} | {figures.settle / first:.1f} "
            f"| {figures.cpu:.1f} | {figures.memory:.0f} | {_writes(figures)} |",
            flush=True,
        )


async def steady(bench: Bench, contenders: list[Contender], size: Size, arguments: argparse.Namespace) -> None:
    """Cold start, idle and churn, all contenders."""
    print(f"\n## Steady {size}: cold start, {arguments.seconds:.0f} s idle, {arguments.rate:.0f} changes/s")
    print(
        "| contender | cold start s | requests of it | idle requests | idle CPU s | change p50 ms | p99 ms | RSS MiB |"
    )
    print("|---" * 8 + "|")
    for contender in contenders:
        result = await bench.steady(contender, size, seconds=arguments.seconds, rate=arguments.rate)
        cold, idle, churn = result["cold start"], result["idle"], result["churn"]
        if cold.failure:
            print(f"| {contender.name} | {cold.failure.strip()[-300:]} |", flush=True)
            continue
        print(
            f"| {contender.name} | {cold.settle:.2f} | {cold.requests.total()} "
            f"| {idle.requests.total()} | {idle.cpu:.2f} "
            f"| {churn.percentile(0.5) * 1000:.0f} | {churn.percentile(0.99) * 1000:.0f} | {churn.memory:.0f} |",
            flush=True,
        )


def _writes(figures: Figures) -> str:
    """Writes per interesting resource, then everything else."""
    writing = ("create", "update", "patch", "delete")
    cells = [sum(figures.requests[f"{verb} {resource}"] for verb in writing) for resource in STATUS]
    return " | ".join(map(str, [*cells, figures.requests.total() - sum(cells)]))


def _size(text: str) -> Size:
    groups, entries = text.lower().split("x")
    return Size(int(groups), int(entries))


if __name__ == "__main__":
    asyncio.run(main())
