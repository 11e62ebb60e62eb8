"""Measure this operator beside its peers: one control plane, one contender after the other, the floor first.

Each table ends with ratios of the same run; the budgets and whether they hold come last. A contender that does not
settle within --timeout seconds gets a line that says how far it came, and the run goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from hack.bench.operator import plan, report
from hack.bench.operator.contenders import ROOT, Contender, compile_ours, kopf_peer, other, ours
from hack.bench.operator.costs import stale_reads, write_costs
from hack.bench.operator.scenarios import Bench
from hack.bench.operator.world import Size
from hack.controlplane import crds
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.rest import Kube

STARTS = 3
CRDS = ROOT / "config" / "crd" / "bases"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = argparse.ArgumentParser(
        prog="python -m hack.bench.operator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--parts", default=",".join(plan.PARTS), help="comma separated (default: %(default)s)")
    flags.add_argument("--bursts", default="1x200,1x1000,50x40", help="GROUPSxENTRIES,... (default: %(default)s)")
    flags.add_argument(
        "--steady", default="20x100", help="GROUPSxENTRIES for cold start, idle and churn (default: %(default)s)"
    )
    flags.add_argument("--seconds", type=float, default=20.0, help="length of idle and of churn (default: %(default)s)")
    flags.add_argument("--rate", type=float, default=50.0, help="changes per second in churn (default: %(default)s)")
    flags.add_argument("--peer", action="append", default=[], metavar="PATH", help="another operator binary")
    flags.add_argument(
        "--peer-crds",
        type=Path,
        metavar="DIR",
        help="definitions of the peer; kinds that this operator does not have are installed for it",
    )
    flags.add_argument("--only", default="", help="names of contenders, comma separated (default: all)")
    flags.add_argument(
        "--timeout", type=float, default=120.0, help="seconds before a contender is given up (default: %(default)s)"
    )
    flags.add_argument(
        "--profile", type=Path, metavar="DIR", help="run this operator under cProfile; figures are then not comparable"
    )
    flags.add_argument(
        "--full", action="store_true", help=f"all sizes of the budgets: {plan.FULL_BURSTS}, steady {plan.FULL_STEADY}"
    )
    return flags


@dataclass
class Run:
    """What a run does, as chosen on the command line."""

    parts: tuple[str, ...]
    bursts: tuple[Size, ...]
    steady: Size
    contenders: list[Contender]
    seconds: float
    rate: float
    timeout: float
    crds: tuple[Path, ...] = (CRDS,)
    verdicts: report.Verdicts = field(default_factory=report.Verdicts)

    def expected(self) -> list[tuple[str, float]]:
        """Parts and their seconds on a quiet machine with two cores."""
        costs = plan.expected_costs()
        lines: list[tuple[str, float]] = []
        for part in self.parts:
            if part == "bursts":
                lines += [
                    (f"burst {size}", plan.expected_burst(size, self.contenders, self.timeout)) for size in self.bursts
                ]
            elif part == "steady":
                seconds = plan.expected_steady(self.steady, self.contenders, self.timeout, self.seconds)
                lines.append((f"steady {self.steady}", seconds))
            else:
                lines.append((part, costs[part]))
        return lines


def read(arguments: argparse.Namespace) -> Run:
    """Check the command line.

    Raises:
        ValueError: an unknown part or contender, or a size that is none.
    """
    parts = tuple(filter(None, arguments.parts.split(",")))
    if unknown := set(parts) - set(plan.PARTS):
        raise ValueError(f"unknown part {', '.join(sorted(unknown))}: there are {', '.join(plan.PARTS)}")
    profiles = arguments.profile
    everyone = [ours("native", profiles), ours("toolhive", profiles), *([peer] if (peer := kopf_peer()) else [])]
    everyone += [other(path) for path in arguments.peer]
    names = list(filter(None, arguments.only.split(",")))
    if missing := set(names) - {contender.name for contender in everyone}:
        raise ValueError(f"no contender {', '.join(sorted(missing))}: there are {', '.join(c.name for c in everyone)}")
    bursts = plan.FULL_BURSTS if arguments.full else arguments.bursts
    return Run(
        parts=parts if arguments.steady or arguments.full else tuple(part for part in parts if part != "steady"),
        bursts=tuple(plan.size_of(text) for text in filter(None, bursts.split(","))),
        steady=plan.size_of(plan.FULL_STEADY if arguments.full else arguments.steady or "1x1"),
        contenders=[contender for contender in everyone if not names or contender.name in names],
        seconds=arguments.seconds,
        rate=arguments.rate,
        timeout=arguments.timeout,
        crds=(CRDS, *(unknown_kinds(arguments.peer_crds) if arguments.peer_crds else ())),
    )


def unknown_kinds(directory: Path) -> list[Path]:
    """Return the files with definitions of kinds that this operator does not have: a peer may need them to start.

    Raises:
        ValueError: there is none to choose from.
    """
    found = {
        path: {body["metadata"]["name"] for body in crds.read([path])} for path in sorted(directory.glob("*.yaml"))
    }
    if not any(found.values()):
        raise ValueError(f"no definitions in {directory}")
    ours_ = {body["metadata"]["name"] for body in crds.read([CRDS])}
    return [path for path, names in found.items() if names and names.isdisjoint(ours_)]


async def measure(run: Run) -> None:
    """Do it all. SIGTERM ends it as Ctrl-C does: contenders and servers are stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    announce(run)
    options = Options(audit="Metadata", crds=run.crds)
    with tempfile.TemporaryDirectory() as directory, ControlPlane(options) as plane:
        logs = Path(directory)
        await compile_ours(logs)
        async with Kube(plane.handle.kubeconfig) as kube:
            servers = (plane.apiserver.process.pid, plane.etcd.process.pid)
            bench = Bench(plane.handle, kube, logs, run.timeout, servers)
            for part in run.parts:
                begin = time.monotonic()
                if part == "start":
                    await starts(run, bench)
                elif part == "bursts":
                    for size in run.bursts:
                        await burst(run, bench, size)
                elif part == "steady":
                    await steady(run, bench)
                elif part == "reads":
                    report.reads_table(await stale_reads(kube, plane.handle.kubeconfig, 200, 5))
                else:
                    pid = plane.apiserver.process.pid
                    report.write_table(await write_costs(kube, plane.handle.kubeconfig, pid, 1000))
                print(f"({part} took {time.monotonic() - begin:.0f} s)", flush=True)
    run.verdicts.show()


def announce(run: Run) -> None:
    """Say what will happen, and how long it takes."""
    lines = run.expected()
    print(f"Contenders: {', '.join(contender.name for contender in run.contenders)}")
    for part, seconds in lines:
        print(f"  {part:16} about {seconds:5.0f} s")
    total = sum(seconds for _, seconds in lines)
    print(
        f"Expected: {math.ceil(total / 60)} min on a quiet machine with two cores. "
        "A control plane is started first (about 5 s).",
        flush=True,
    )


async def starts(run: Run, bench: Bench) -> None:
    """Starts with a single entry."""
    results = []
    for contender in run.contenders:
        tries = [await bench.start(contender) for _ in range(STARTS)]
        worked = [figures for figures in tries if not figures.failure]
        results.append((contender, min(worked, key=lambda figures: figures.cpu) if worked else tries[0]))
    report.start_table(results)
    for contender, figures in results:
        if contender.name == report.JUDGED:
            run.verdicts.at_most("start to first status, s CPU", figures.cpu, 0.45)


async def burst(run: Run, bench: Bench, size: Size) -> None:
    """One burst size, all contenders."""
    floor = await bench.floor(size)
    report.burst_head(size, floor)
    first = math.nan
    for contender in run.contenders:
        figures = await bench.burst(contender, size)
        first = figures.settle if math.isnan(first) else first
        report.burst_line(contender, size, figures, floor, first)
        run.verdicts.burst(contender.name, size, figures, floor.settle)


async def steady(run: Run, bench: Bench) -> None:
    """Cold start, idle and churn, all contenders."""
    floor = await bench.floor(run.steady)
    report.steady_head(run.steady, floor.settle, run.seconds, run.rate)
    for contender in run.contenders:
        result = await bench.steady(contender, run.steady, seconds=run.seconds, rate=run.rate)
        report.steady_line(contender, result, floor.settle)
        run.verdicts.steady(contender.name, run.steady, result)


def main() -> int:
    """Run from the command line. Returns 2 for wrong usage, 130 when interrupted."""
    try:
        run = read(parser().parse_args())
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    try:
        asyncio.run(measure(run))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("interrupted\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
