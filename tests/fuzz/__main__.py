"""Fuzz one target, guided by coverage: python -m tests.fuzz TARGET CORPUS... [libFuzzer options]

    python -m tests.fuzz urls found tests/fuzz/corpus/urls -max_total_time=60

The first folder is where inputs that reach new code are kept. A finding ends the process with its input in a file.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["api", "vmcp"]):
    from tests.fuzz.targets import TARGETS, quiet


def main() -> None:
    """Run the target that the command line names until libFuzzer has enough."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{(__doc__ or '').strip()}\n\ntargets: {', '.join(TARGETS)}")
    quiet()
    run = TARGETS[sys.argv.pop(1)]()
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
