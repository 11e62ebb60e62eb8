"""The command line: `python -m hack.hostile_matrix --help`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from typing import Final

import hack.hostile_matrix
from hack.hostile_matrix.house import ROOT, Row, measure

PAGE: Final = ROOT / "docs" / "vmcp" / "hostile-matrix.md"
HEAD: Final = (
    "| limit | value | driven with | answers | bystander p99, ms | idle p99, ms | longest `/ping`, ms "
    "| most memory, MiB | back after, s |\n|---|---|---|---|---|---|---|---|---|\n"
)


def main() -> int:
    """Run the matrix; 1 = something does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m hack.hostile_matrix",
        description=hack.hostile_matrix.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="less of everything: seconds instead of minutes")
    parser.add_argument("--only", metavar="TEXT", default="", help="only limits whose name or driver holds this text")
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    sys.stdout.write(HEAD)
    say = lambda line: print(line, flush=True)  # noqa: E731
    rows = asyncio.run(measure(full=not options.short, only=options.only, say=say))
    if options.write:
        PAGE.write_text(_page(rows))
    return 0 if all(row.holds for row in rows) else 1


def _page(rows: Iterable[Row]) -> str:
    return f"""# What a bystander notices while a limit is driven

<!-- Written by `make hostile-matrix ARGS=--write`. Do not edit. -->

Every limit was driven with ten times its value, where its row does not say otherwise, by one client while another one
called a tool of another server. Time is what the other one waited, and beside it what it waits when its neighbour is as
busy with something else; `/ping` is what the gateway answers alone, so its longest answer is how long the gateway
looked after nobody else. The memory is the gateway's, all of it.

{HEAD}{chr(10).join(map(str, rows))}
"""


if __name__ == "__main__":
    sys.exit(main())
