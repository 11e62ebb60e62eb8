"""The command line: `python -m hack.cluster --help`."""

from __future__ import annotations

import argparse
import os
import sys
import time

from hack.cluster.cluster import Cluster
from hack.cluster.daemons import DaemonError
from hack.cluster.dockerfile import DockerfileError
from hack.cluster.images import ImageError
from hack.cluster.layout import DOCKERFILES, default_layout
from hack.cluster.requirements import problem
from hack.controlplane.binaries import ensure
from hack.controlplane.programs import BinariesError, to_stderr

UNAVAILABLE = 77
"""Exit status where the machine cannot run a cluster: what test harnesses read as "skipped"."""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(prog="python -m hack.cluster", description=(__doc__ or "") and "One real node.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help=f"say whether this machine can run a cluster (exit status 0 or {UNAVAILABLE})")
    commands.add_parser("up", help="start it; prints `export KUBECONFIG=...`")
    commands.add_parser("images", help="build the images of operator, gateway and SDK, and import them")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("down", help="stop it and undo every trace; programs and images stay in the cache directory")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = parser().parse_args(argv)
    layout = default_layout()
    cluster = Cluster(layout, to_stderr)
    why = problem()
    if why:
        print(f"skipped: {why}", file=sys.stderr)
        return UNAVAILABLE
    start = time.monotonic()
    try:
        match arguments.command:
            case "up":
                to_stderr(
                    "==> starting the cluster (usually 15 s; the first time builds programs and images: 10 minutes)"
                )
                cluster.up()
                print(f"export KUBECONFIG={layout.kubeconfig}")
                print(f"export PATH={ensure().directory}:$PATH")
            case "images":
                to_stderr(f"==> building {', '.join(DOCKERFILES)} (usually 15 s, the first time 6 minutes)")
                cluster.load_own_images()
            case "status":
                print("\n".join(cluster.status()))
            case "down":
                cluster.down()
                to_stderr(f"==> the cluster is gone after {time.monotonic() - start:.1f} s; kept: {layout.root}")
        sys.stdout.flush()
    except BrokenPipeError:  # `status | head -1`: whoever reads has enough; spare the flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (BinariesError, ImageError, DockerfileError, DaemonError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
