"""Write docs/interoperability.md from the rows that a run of tests/matrix left.

    python -m hack.interop_table ROWS_FOLDER [--out docs/interoperability.md]

`make matrix` does both: the whole run, then this.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

HEAD = """\
<!-- Written by `make matrix` from what a run showed; do not edit. -->
# Interoperability

Published releases of the official SDKs, FastMCP and the Inspector, each in an environment of its own with the
dependencies of its time, tried with this gateway between client and server. A release has a row only if everything
that the row says was seen in that run:

- initialize (or discover), list, call, read and prompt give through the gateway what they give directly;
- a long call ends with its result, and its progress arrives in order;
- a server that asks its caller (elicitation) gets the answer, where server and client can do that in the era at hand;
- **server restart**: the server is killed and started again under a client's session, which then calls a tool;
- **gateway restart**: the same with the gateway.

`make matrix` repeats the run and writes this page; `make test-long` runs it whole, `make test` its ends.
"""
COLUMNS = ("Version", "Protocol", "Long call", "Elicitation", "Server restart", "Gateway restart")


def main() -> None:
    """Read the rows, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/interoperability.md"))
    options = parser.parse_args()
    rows = [json.loads(path.read_text()) for path in options.rows.glob("*.json")]
    if not rows:
        parser.error(f"no rows in {options.rows}")
    options.out.write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """The whole page: one table per role and line, versions in their order."""
    parts = [HEAD]
    for role, title in (("server", "Servers behind the gateway"), ("client", "Clients before the gateway")):
        parts.append(f"\n## {title}\n")
        for line in sorted({row["line"] for row in rows if row["role"] == role}):
            mine = [row for row in rows if (row["role"], row["line"]) == (role, line)]
            mine.sort(key=lambda row: ([int(part) for part in re.findall(r"\d+", row["version"])], row["protocol"]))
            parts.append(f"\n### {line}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n")
            parts.extend(_line(row) for row in mine)
    return "".join(parts)


def _line(row: dict[str, Any]) -> str:
    cells = (
        row["version"],
        row["protocol"],
        row["long_call"],
        row["elicitation"] or "not in this release",
        row["server_restart"],
        row["gateway_restart"],
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
