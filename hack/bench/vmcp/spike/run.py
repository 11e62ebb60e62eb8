"""Compare HTTP clients behind the same small gateway, in alternating rounds on pinned cores; print a table."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import harness

CLIENTS = ("own", "pyreqwest", "aiohttp")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--sizes", default="64,100000", help="bytes of the answer's text")
    args = parser.parse_args()
    python = str(harness.bench_python())
    script = str(harness.HERE / "spike" / "gateway.py")
    print("| client | payload | clients | calls/s | p50 ms | added p50 ms | p99 ms | CPU us per call |")
    print("|---|---|---|---|---|---|---|---|")
    with harness.backends() as urls:
        for size in [int(size) for size in args.sizes.split(",")]:
            for clients in (1, 32):
                found: dict[str, list[harness.Sample]] = {name: [] for name in ("direct", *CLIENTS)}
                for round_ in range(args.rounds):
                    harness.say(f"==> {size} B, {clients} clients, round {round_ + 1} of {args.rounds}")
                    found["direct"].append(harness.load(urls[0], clients=clients, seconds=args.seconds, size=size))
                    for name in CLIENTS:
                        port = harness.free_port()
                        command = [python, script, "--client", name, "--backend", urls[0], "--port", str(port)]
                        with harness.running(command, core=harness.GATEWAY_CORE, port=port) as process:
                            url = f"http://127.0.0.1:{port}/mcp"
                            found[name].append(
                                harness.load(
                                    url,
                                    clients=clients,
                                    seconds=args.seconds,
                                    tools="b_echo",
                                    size=size,
                                    process=process,
                                )
                            )
                direct = min(sample.p50 for sample in found["direct"])
                for name, samples in found.items():
                    top = harness.best(samples)
                    p50, p99 = min(s.p50 for s in samples), min(s.p99 for s in samples)
                    cpu = min(s.cpu for s in samples)
                    bad = sum(s.errors for s in samples)
                    note = f" ({bad} errors: {samples[0].problem})" if bad else ""
                    wall = f"{top.rate:.0f} | {p50:.3f} | {p50 - direct:.3f} | {p99:.2f}"
                    print(f"| {name}{note} | {size} | {clients} | {wall} | {cpu:.0f} |", flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("aiohttp", "httptools", "uvloop", "uvicorn")}
    print(f"\nBest of {args.rounds} alternating rounds of {args.seconds:g} s. {versions}")


if __name__ == "__main__":
    main()
