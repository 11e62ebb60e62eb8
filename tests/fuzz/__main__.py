"""Fuzz one target, guided by coverage: python -m tests.fuzz TARGET CORPUS... [libFuzzer options]

    python -m tests.fuzz urls found tests/fuzz/corpus/urls -max_total_time=60
    python -m tests.fuzz all FOLDER SECONDS [libFuzzer options]

The latter runs every target, one after the other; 0 s: a fixed number of inputs each.

The first folder is where inputs that reach new code are kept. A finding ends the process with its input in a file.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["api", "vmcp"]):
    from tests.fuzz.targets import RUNS, TARGETS, quiet


CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run the target that the command line names until libFuzzer has enough, or each in a process of its own."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in {*TARGETS, "all"}:
        sys.exit(f"{(__doc__ or '').strip()}\n\ntargets: all, {', '.join(TARGETS)}")
    quiet()
    if name != "all":
        fuzz(name, sys.argv[1:])
    folder, seconds, *options = sys.argv[1:]
    failed = [target for target in TARGETS if not search(target, Path(folder), int(seconds), options)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def fuzz(name: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name]())
    atheris.Fuzz()


def search(name: str, folder: Path, seconds: int, options: list[str]) -> bool:
    """Fuzz one target in a fork, which spares it the instrumentation; say whether it passed."""
    found = folder / name
    found.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        prefix = f"-artifact_prefix={folder}/{name}-"
        bound = f"-max_total_time={seconds}" if seconds else f"-runs={RUNS[name]}"
        fuzz(name, [str(found), str(CORPUS / name), bound, prefix, *options])
    end = time.monotonic() + 2 * seconds + 120
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    print(f"==> {name}: exit status {os.waitstatus_to_exitcode(ended[1])}", flush=True)
    return ended[1] == 0


if __name__ == "__main__":
    main()
