"""Measure gateways side by side in one run: added latency, throughput, sizes, many backends, memory, bad neighbours.

The gateway has one core for itself, backends and load generator (both Go) share another. Rounds alternate between the
contestants, and the best round counts: a busy machine only ever makes things slower. CPU time per call is printed
beside wall clock times, because it holds where they do not. Figures go to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import harness
import psutil
from gateways import Gateway
from issuer import Issuer
from redis import Redis

from hack.redis_server import MISSING, RedisServer, find

DIRECT = Gateway("direct", "direct")
FLOOR = Gateway("floor: strips the prefix, nothing else", "floor")
OURS = Gateway("vmcp, anonymous", "vmcp")
FULL = Gateway("vmcp, JWT + Cedar + audit + metrics", "full")
FASTMCP = (Gateway("FastMCP proxy, as shipped", "fastmcp"), Gateway("FastMCP proxy, tuned", "tuned"))

PROXIES = (Gateway("proxy, anonymous", "proxy"), Gateway("proxy, JWT + Cedar + audit + metrics", "proxy-full"))

BUDGETS = {
    ("modern", "vmcp"): (9000, 0.30),
    ("legacy", "vmcp"): (5500, 0.40),
    ("modern", "full"): (1.3 * 4518, 0.36),
    ("legacy", "full"): (2 * 1833, 0.54),
    ("modern", "proxy"): (9000, 0.25),
    ("legacy", "proxy"): (9000, 0.25),
    ("modern", "proxy-full"): (6000, 0.32),
    ("legacy", "proxy-full"): (6000, 0.32),
}
"""Calls per second at 32 clients, and milliseconds added at one (docs/design: budgets)."""


class PartOver(Exception):  # noqa: N818  it is no error
    """A part has used up its time; what it found so far is printed."""


@dataclass
class Bench:
    """One run's settings.

    Attributes:
        until: `time.monotonic()` after which no measurement of the part is begun.
    """

    gateways: list[Gateway]
    rounds: int
    seconds: float
    issuer: Issuer
    until: float = float("inf")

    @contextmanager
    def part(self, name: str, limit: float) -> Iterator[None]:
        """Run a part within `limit` seconds; one measurement that was begun may end after that."""
        began = time.monotonic()
        self.until = began + limit
        harness.say(f"==> part {name}: at most {limit / 60:.0f} minutes")
        try:
            yield
        except PartOver:
            print(f"\n(stopped: the part's {limit:.0f} s are over)", flush=True)
        print(f"\nPart {name}: {time.monotonic() - began:.0f} s of at most {limit:.0f} s.", flush=True)

    @contextmanager
    def serving(
        self, gateway: Gateway, urls: Sequence[str], era: str
    ) -> Iterator[tuple[str, subprocess.Popen[str] | None]]:
        """Run a gateway in front of backends; yield its URL."""
        if gateway.kind == "direct":
            yield urls[0], None
            return
        port = harness.free_port()
        command = gateway.command(urls, port, era, self.issuer)
        with harness.running(command, core=harness.GATEWAY_CORE, port=port, env=gateway.environ) as process:
            url = f"http://127.0.0.1:{port}/mcp"
            self.warm(gateway, url, era)
            yield url, process

    def warm(self, gateway: Gateway, url: str, era: str) -> None:
        """Wait until calls succeed: backends are found in the background."""
        until = time.monotonic() + 60
        while True:
            sample = self.load(gateway, url, era, None, clients=1, seconds=0.2)
            if sample.total > 0 and sample.errors == 0:
                return
            if time.monotonic() > until:
                raise RuntimeError(f"{gateway.name} does not serve: {sample.problem}")
            time.sleep(0.2)

    def load(
        self, gateway: Gateway, url: str, era: str, process: subprocess.Popen[str] | None, **options: object
    ) -> harness.Sample:
        """Run the load generator with what the gateway needs.

        Raises:
            PartOver: There is no time left for that.
        """
        if time.monotonic() > self.until:
            raise PartOver
        header = f"Authorization: Bearer {self.issuer.token()}" if gateway.header else ""
        defaults: dict[str, object] = {"seconds": self.seconds, "tools": gateway.tool()}
        return harness.load(url, era=era, header=header, process=process, **(defaults | options))  # type: ignore[arg-type]


def core(bench: Bench, contestants: Sequence[Gateway], title: str = "") -> None:
    """Added latency at one client, throughput at 32 and 256, both eras."""
    print(f"\n## {title}Calls of 64 bytes, 1 backend, 10 tools\n")
    heads = (
        "era",
        "gateway",
        "added p50 ms",
        "added p99 ms",
        "calls/s 32",
        "p99 ms 32",
        "calls/s 256",
        "CPU us/call 32",
    )
    print(f"| {' | '.join((*heads, 'budget'))} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for era in ("modern", "legacy"):
        found: dict[Gateway, dict[int, list[harness.Sample]]] = {}
        over: PartOver | None = None
        with harness.backends(era=era) as urls:
            try:
                for round_ in range(bench.rounds):
                    for gateway in [DIRECT, *contestants]:
                        harness.say(f"==> {era}, round {round_ + 1} of {bench.rounds}: {gateway.name}")
                        with bench.serving(gateway, urls, era) as (url, process):
                            for clients in (1, 32, 256):
                                sample = bench.load(gateway, url, era, process, clients=clients)
                                found.setdefault(gateway, {}).setdefault(clients, []).append(sample)
            except PartOver as err:
                over = err
        found = {gateway: sizes for gateway, sizes in found.items() if len(sizes) == 3}
        if DIRECT not in found:
            raise over or PartOver
        direct = found[DIRECT][1]
        base50, base99 = min(s.p50 for s in direct), min(s.p99 for s in direct)
        for gateway, by_clients in found.items():
            one, many, most = by_clients[1], by_clients[32], by_clients[256]
            added = min(s.p50 for s in one) - base50
            rate = max(s.rate for s in many)
            cpu = min((s.cpu for s in many if s.cpu), default=0.0)
            cells = [
                era,
                gateway.name + _errors([*one, *many, *most]),
                f"{added:.3f}",
                f"{min(s.p99 for s in one) - base99:.3f}",
                f"{rate:.0f}",
                f"{min(s.p99 for s in many):.1f}",
                f"{max(s.rate for s in most):.0f}",
                f"{cpu:.0f}",
                _verdict(era, gateway, rate, added, cpu),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
        if over is not None:
            raise over


def _errors(samples: Sequence[harness.Sample]) -> str:
    bad = [sample for sample in samples if sample.errors]
    return f" (**{sum(s.errors for s in bad)} errors**: {bad[-1].problem[:120]})" if bad else ""


def _verdict(era: str, gateway: Gateway, rate: float, added: float, cpu: float) -> str:
    budget = BUDGETS.get((era, gateway.kind))
    if budget is None:
        return ""
    by_cpu = 1e6 / cpu if cpu else 0.0
    wall = "holds" if rate >= budget[0] and added <= budget[1] else "misses"
    return f">= {budget[0]:.0f}/s, <= {budget[1]:.2f} ms: {wall} (CPU time allows {by_cpu:.0f}/s)"


def floor(bench: Bench, windows: int) -> None:
    """CPU per call beside the smallest gateway that could do the job: holds on a machine that others use, too."""
    print(f"\n## CPU per call beside the floor, 32 clients, the least of {windows} windows\n")
    print("| era | gateway | CPU us/call | ratio to the floor |\n|---|---|---|---|")
    lowest = 0.0
    for era in ("modern", "legacy"):
        with harness.backends(era=era) as urls:
            for gateway in [*([FLOOR] if era == "modern" else []), *(g for g in bench.gateways if g.many)]:
                harness.say(f"==> CPU per call, {era}: {gateway.name}")
                with bench.serving(gateway, urls, era) as (url, process):
                    # A legacy window begins with 32 handshakes on both sides: it must be long enough to forget them.
                    count, seconds = (windows, 0.25) if era == "modern" else (max(3, windows // 3), 3.0)
                    samples = [
                        bench.load(gateway, url, era, process, clients=32, seconds=seconds, warm=0.05)
                        for _ in range(count)
                    ]
                least = min(sample.cpu for sample in samples if sample.cpu)
                lowest = lowest or least
                name = gateway.name + _errors(samples)
                print(f"| {era} | {name} | {least:.0f} | {least / lowest:.2f} |", flush=True)


def sizes(bench: Bench, payloads: Sequence[int]) -> None:
    """Throughput by size of the answer."""
    print("\n## Answers by size, modern, 32 clients\n")
    print("| bytes | gateway | calls/s | MB/s | p50 ms | CPU us/call |\n|---|---|---|---|---|---|")
    with harness.backends(era="modern") as urls:
        for gateway in [DIRECT, *bench.gateways]:
            with bench.serving(gateway, urls, "modern") as (url, process):
                for size in payloads:
                    harness.say(f"==> {size} bytes: {gateway.name}")
                    samples = [
                        bench.load(gateway, url, "modern", process, clients=32, size=size) for _ in range(bench.rounds)
                    ]
                    top = harness.best(samples)
                    name = gateway.name + _errors(samples)
                    rest = f"{top.rate:.0f} | {top.rate * size / 1e6:.1f} | {top.p50:.2f} | {top.cpu:.0f}"
                    print(f"| {size} | {name} | {rest} |", flush=True)


def spread(bench: Bench, counts: Sequence[int], tools: Sequence[int]) -> None:
    """Throughput by number of backends and tools."""
    print("\n## Backends and tools, 32 clients over all backends\n")
    print("| era | backends | tools each | gateway | calls/s | p50 ms | CPU us/call |\n|---|---|---|---|---|---|---|")
    many = [gateway for gateway in bench.gateways if gateway.many]
    for era in ("modern", "legacy"):
        for count in counts:
            for each in tools:
                with harness.backends(count, era=era, tools=each) as urls:
                    for gateway in many:
                        harness.say(f"==> {era}, {count} backends, {each} tools: {gateway.name}")
                        with bench.serving(gateway, urls, era) as (url, process):
                            names = ",".join(gateway.tool(f"b{index}") for index in range(min(count, 32)))
                            samples = [
                                bench.load(gateway, url, era, process, clients=32, tools=names)
                                for _ in range(bench.rounds)
                            ]
                        top = harness.best(samples)
                        name = gateway.name + _errors(samples)
                        rest = f"{top.rate:.0f} | {top.p50:.2f} | {top.cpu:.0f}"
                        print(f"| {era} | {count} | {each} | {name} | {rest} |", flush=True)


def memory(bench: Bench, count: int) -> None:
    """Memory per 1,000 legacy sessions with one call each."""
    print(f"\n## Memory, {count} legacy sessions with a call each\n")
    print("| gateway | before MiB | after MiB | KiB per session |\n|---|---|---|---|")
    for gateway in [gateway for gateway in bench.gateways if gateway.kind in {"vmcp", "binary", "tuned"}]:
        harness.say(f"==> memory: {gateway.name}")
        with harness.backends(era="legacy") as urls, bench.serving(gateway, urls, "legacy") as (url, process):
            assert process is not None
            watched = psutil.Process(process.pid)
            before = watched.memory_info().rss
            after, note = harness.open_sessions(
                url, count, gateway.tool(), lambda watched=watched: watched.memory_info().rss
            )
            each = (after - before) / count / 1024
            print(f"| {gateway.name}{note} | {before / 2**20:.0f} | {after / 2**20:.0f} | {each:.1f} |", flush=True)


def neighbours(bench: Bench, pairs: int) -> None:
    """A dead and a 5 s slow backend beside a healthy one: alternating pairs, medians of the ratios.

    A third gateway, again with the healthy backend alone, is measured like the other two. Its ratios are what this
    machine does to two programs that are the same: a p99 of one window of two seconds can be twice that of the next.
    CPU per call is printed as well: what bad neighbours cost the loop shows there, whoever else uses the machine.
    """
    print(f"\n## Bad neighbours: p50 and p99 of a healthy backend, median of {pairs} alternating pairs\n")
    print("| era | gateway | beside | p50 ratio | p99 ratio | p99 ratios, sorted | CPU ratio | budget |")
    print("|---|---|---|---|---|---|---|---|")
    dead = f"http://127.0.0.1:{harness.free_port()}/mcp"
    for era in ("modern", "legacy"):
        for gateway in [gateway for gateway in bench.gateways if gateway.kind in {"vmcp", "binary"}]:
            harness.say(f"==> neighbours, {era}: {gateway.name}")
            with (
                harness.backends(era=era) as good,
                harness.backends(era=era, delay="5s") as slow,
                bench.serving(gateway, good, era) as alone,
                bench.serving(gateway, good, era) as control,
                bench.serving(gateway, [*good, dead, *slow], era) as beside,
            ):
                ratios = [_pair(bench, gateway, era, (alone, control, beside)) for _ in range(pairs)]
            for index, what in enumerate(("nothing (control)", "a dead and a slow one")):
                of = [pair[index] for pair in ratios]
                p50, p99, cpu = (statistics.median(ratio[figure] for ratio in of) for figure in range(3))
                spread = " ".join(f"{ratio:.2f}" for ratio in sorted(ratio[1] for ratio in of))
                verdict = "<= 1.10: " + ("holds" if max(p50, p99) <= 1.10 else "misses")
                shown = verdict if index == 1 and gateway.kind != "binary" else ""
                print(
                    f"| {era} | {gateway.name} | {what} | {p50:.2f} | {p99:.2f} | {spread} | {cpu:.2f} | {shown} |",
                    flush=True,
                )


def sessions(bench: Bench, count: int) -> None:
    """Legacy calls with the sessions in a store on loopback beside the same without; what a session takes there."""
    print("\n## Sessions in a store, legacy\n")
    if find() is None:
        print(f"({MISSING})")
        return
    server = RedisServer()
    server.start()
    store = Redis(port=server.port)
    try:
        kept = replace(OURS, name="vmcp, sessions in a store", store=f"127.0.0.1:{server.port}")
        with harness.backends(era="legacy") as urls:
            _beside_each_other(bench, kept, urls)
            print("\n| sessions | gateway KiB each | store KiB each | store MiB |\n|---|---|---|---|")
            with bench.serving(kept, urls, "legacy") as (url, process):
                assert process is not None
                watched = psutil.Process(process.pid)
                before, empty = watched.memory_info().rss, store.info("memory")["used_memory"]
                (after, full), note = harness.open_sessions(
                    url, count, kept.tool(), lambda: (watched.memory_info().rss, store.info("memory")["used_memory"])
                )
                each, there = ((size / count / 1024) for size in (after - before, full - empty))
                print(f"| {count}{note} | {each:.1f} | {there:.2f} | {(full - empty) / 2**20:.1f} |", flush=True)
    finally:
        store.close()
        server.close()


def _beside_each_other(bench: Bench, kept: Gateway, urls: Sequence[str]) -> None:
    found: dict[Gateway, dict[int, list[harness.Sample]]] = {OURS: {1: [], 32: []}, kept: {1: [], 32: []}}
    with bench.serving(OURS, urls, "legacy") as plain, bench.serving(kept, urls, "legacy") as shared:
        for round_ in range(bench.rounds):
            harness.say(f"==> sessions, round {round_ + 1} of {bench.rounds}")
            for gateway, (url, process) in ((OURS, plain), (kept, shared)):
                for clients, samples in found[gateway].items():
                    samples.append(bench.load(gateway, url, "legacy", process, clients=clients))
    (one, many), (one_kept, many_kept) = (tuple(sizes.values()) for sizes in found.values())
    added = min(s.p50 for s in one_kept) - min(s.p50 for s in one)
    ratio = max(s.rate for s in many_kept) / max(s.rate for s in many)
    print("| p50 ms added | calls/s, ratio | CPU us/call | without | budget |\n|---|---|---|---|---|")
    cpu, without = (min(s.cpu for s in samples if s.cpu) for samples in (many_kept, many))
    verdict = "holds" if added <= 0.15 and ratio >= 0.8 else "misses"
    errors = _errors([*one_kept, *many_kept])
    print(
        f"| {added:.3f}{errors} | {ratio:.2f} | {cpu:.0f} | {without:.0f} | <= 0.15 ms, >= 0.8: {verdict} |", flush=True
    )


WINDOWS = 4
"""Windows of each contestant in a pair; even, so that each is first as often as last."""


def _pair(
    bench: Bench, gateway: Gateway, era: str, contestants: Sequence[tuple[str, subprocess.Popen[str] | None]]
) -> list[tuple[float, float, float]]:
    """Return what p50, p99 and CPU per call of each further contestant are of the first one's.

    Each figure is the median of windows that alternate, in an order that turns: what the machine does in between must
    not favour one of them.
    """
    samples: dict[str, list[harness.Sample]] = {url: [] for url, _ in contestants}
    for window in range(WINDOWS):
        for url, process in contestants[:: -1 if window % 2 else 1]:
            sample = bench.load(gateway, url, era, process, clients=8)
            if not (sample.p50 and sample.p99):
                raise RuntimeError(f"{gateway.name}: {sample.problem}")
            samples[url].append(sample)
    first, *others = (
        tuple(statistics.median(getattr(sample, name) for sample in found) for name in ("p50", "p99", "cpu"))
        for found in samples.values()
    )
    return [(of[0] / first[0], of[1] / first[1], of[2] / first[2]) for of in others]


LIMITS = {
    "core": 1200,
    "proxy": 600,
    "floor": 300,
    "sizes": 600,
    "spread": 600,
    "memory": 180,
    "neighbours": 600,
    "sessions": 300,
}
"""Seconds of each part; `--full` has four times as much."""


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="all sizes and counts (about an hour instead of ten minutes)"
    )
    parser.add_argument("--parts", default=",".join(LIMITS), help="comma separated, of: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--no-fastmcp", action="store_true", help="leave out FastMCP's proxy, which is slow to measure")
    parser.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="PATH",
        help="another gateway: a program that takes `serve --config F --host H --port P` as ours does",
    )
    args = parser.parse_args()
    others = [Gateway(Path(path).name, "binary", str(Path(path).resolve())) for path in args.gateway]
    gateways = [OURS, FULL, *others, *(() if args.no_fastmcp else FASTMCP)]
    bench = Bench(gateways, args.rounds, args.seconds, Issuer())
    harness.tools_binary()
    load = os.getloadavg()[0]
    print(
        f"# Gateways side by side\n\nPython {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the"
    )
    print(
        f"start; best of {args.rounds} alternating rounds of {args.seconds:g} s; gateway on core 0, the rest on core 1."
    )
    payloads = (64, 1_000, 10_000, 100_000, 1_000_000) if args.full else (64, 10_000, 1_000_000)
    counts, tools = ((1, 10, 100), (10, 1000)) if args.full else ((1, 100), (10,))
    parts: dict[str, Callable[[], None]] = {
        "core": lambda: core(bench, bench.gateways),
        "proxy": lambda: core(bench, [*PROXIES, OURS], "Proxies: "),
        "floor": lambda: floor(bench, 12),
        "sizes": lambda: sizes(bench, payloads),
        "spread": lambda: spread(bench, counts, tools),
        "memory": lambda: memory(bench, 1000),
        "neighbours": lambda: neighbours(bench, 5),
        "sessions": lambda: sessions(bench, 10_000 if args.full else 2_000),
    }
    wanted = args.parts.split(",")
    unknown = sorted(set(wanted) - parts.keys())
    if unknown:
        parser.error(f"no such parts: {', '.join(unknown)}; there are: {', '.join(parts)}")
    for name in wanted:
        with bench.part(name, LIMITS[name] * (4 if args.full else 1)):
            parts[name]()


if __name__ == "__main__":
    main()
