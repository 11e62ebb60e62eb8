"""Measure the runtime against plain dictionaries in one run, and print the ratios and the budgets.

python -m hack.bench.runtime_micro [--objects 10000] [--rounds 3] [--probes start]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    probe: str
    name: str
    unit: str
    label: str
    budget: float | None


FIGURES = (
    Figure("memory", "kib_per_object", "KiB", "memory per cached object of 3 KB", 6.0),
    Figure("memory", "gc_ms", "ms", "full garbage collection with all objects", None),
    Figure("events", "us_per_event", "us", "CPU per watch event, line to handler", 50.0),
    Figure("sync", "peak_mib", "MiB", "first sync: peak memory above the start", 60.0),
    Figure("sync", "settled_mib", "MiB", "first sync: memory kept", None),
    Figure("sync", "longest_block_ms", "ms", "first sync: longest block of the loop", 50.0),
    Figure("sync", "total_s", "s", "first sync: time", None),
    # CPU time decides: the wall clock of an import measures what else runs on the machine.
    Figure("start", "import_cpu_s", "s CPU", "import", 0.5),
    Figure("start", "import_s", "s", "import, wall clock", None),
    Figure("start", "first_reconcile_cpu_s", "s CPU", "import, sync of all objects, first reconcile", 1.5),
    Figure("start", "first_reconcile_s", "s", "the same, wall clock", None),
    Figure("start", "rss_after_import_mib", "MiB", "memory after the import", None),
)


def environment(cache: str) -> dict[str, str]:
    """Return an environment in which bytecode is kept, as an image keeps it: compiling is no part of an import."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": cache}


def measure(probe: str, kind: str, objects: int, url: str, cache: str) -> dict[str, float]:
    """Run one measurement in a fresh interpreter."""
    command = [
        sys.executable,
        "-m",
        "hack.bench.runtime_micro.probes",
        probe,
        kind,
        f"--objects={objects}",
        f"--url={url}",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=environment(cache))
    result: dict[str, float] = json.loads(done.stdout)
    return result


def best(probe: str, kind: str, objects: int, url: str, rounds: int, cache: str) -> dict[str, float]:
    """Return the least of each figure: neighbours on the machine only ever add."""
    results = [measure(probe, kind, objects, url, cache) for _ in range(rounds)]
    return {name: min(result[name] for result in results) for name in results[0]}


def main() -> int:
    """Print the table; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    probes = tuple(dict.fromkeys(figure.probe for figure in FIGURES))
    parser.add_argument("--probes", default=",".join(probes), help="comma separated (default: %(default)s)")
    arguments = parser.parse_args()
    objects, rounds = arguments.objects, arguments.rounds
    command = [sys.executable, "-m", "hack.bench.runtime_micro.server", f"--objects={objects}"]
    missed = 0
    chosen = [probe for probe in probes if probe in arguments.probes.split(",")]
    with (
        tempfile.TemporaryDirectory() as cache,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            print(f"{objects} objects, best of {rounds} rounds\n")
            print(f"{'':54}{'runtime':>10}{'dict':>10}{'ratio':>8}{'budget':>9}")
            for probe in chosen:
                ours = best(probe, "runtime", objects, url, rounds, cache)
                peer = best(probe, "dict", objects, url, rounds, cache) if probe != "start" else {}
                missed += sum(show(figure, ours, peer) for figure in FIGURES if figure.probe == probe)
        finally:
            server.kill()
    print(f"\n{missed} budgets missed" if missed else "\nall budgets hold")
    return min(missed, 1)


def show(figure: Figure, ours: dict[str, float], peer: dict[str, float]) -> bool:
    """Print a line; True when its budget is missed."""
    value, other = ours[figure.name], peer.get(figure.name)
    missed = figure.budget is not None and value > figure.budget
    budget = "" if figure.budget is None else f"{'MISSED ' if missed else ''}{figure.budget:g}"
    compared = f"{other:10.2f}{value / other:7.2f}x" if other else f"{'':18}"
    print(f"{figure.label + ' [' + figure.unit + ']':54}{value:10.2f}{compared}{budget:>9}", flush=True)
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
