"""One control plane for several processes: a supervisor process owns it and ends when its owner does.

The owner (the pytest process that the user started, or nobody for `up --detach`) holds a lock on a file. The supervisor
waits for that lock: it gets it when the owner ends, were it by `kill -9`, because the kernel frees locks. So whoever
needs the control plane first can start it (an xdist worker that may end before the others), and nothing is ever left
behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from types import FrameType

from hack.controlplane.handle import STATE, Handle
from hack.controlplane.plane import GARBAGE_COLLECTION, ControlPlane, Options
from hack.controlplane.process import ProcessError

ROOT = Path(__file__).parents[2]
PLANE = "plane"
TEST_CRDS = (ROOT / "config" / "crd" / "bases", ROOT / "tests" / "support" / "crds")
_LOG = "supervisor.log"


def test_options() -> Options:
    """What the test suites share; `hack.controlplane.pytest_plugin` describes it."""
    return Options(
        controllers=GARBAGE_COLLECTION, audit="Metadata", crds=tuple(path for path in TEST_CRDS if path.is_dir())
    )


def serve(options: Options, *, directory: Path, owner: Path | None) -> None:
    """Run a control plane until SIGTERM or SIGINT arrives, or the lock on the `owner` file becomes free."""
    done = signalled()
    if owner is not None:
        Thread(target=_watch, args=(owner, done), daemon=True).start()
    with ControlPlane(options, directory=directory):
        done.wait()


def signalled() -> Event:
    """An event that SIGTERM and SIGINT set from now on, instead of ending the process."""
    done = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return done


def _watch(owner: Path, done: Event) -> None:
    with contextlib.suppress(OSError), owner.open("r") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    done.set()


def start(run: Path, arguments: tuple[str, ...] = (), *, owner: Path | None, timeout: float = 180.0) -> Handle:
    """Return the control plane in `run`; the first caller starts it, others that call meanwhile wait.

    Args:
        run: a directory that exists.
        arguments: options of `python -m hack.controlplane serve`; those of the first caller count.
        owner: the file whose lock tells that somebody still wants the control plane; None: until `stop`.
        timeout: seconds until it must be ready.

    Raises:
        ProcessError: it does not start; the message holds the supervisor's log.
    """
    with (run / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            handle = Handle.load(run / PLANE)
            if running(handle.pid):
                return handle
        return _spawn(run, arguments, owner, timeout)


def _spawn(run: Path, arguments: tuple[str, ...], owner: Path | None, timeout: float) -> Handle:
    command = [sys.executable, "-m", "hack.controlplane", "serve", f"--directory={run / PLANE}", *arguments]
    if owner is not None:
        command.append(f"--owner={owner}")
    log = run / _LOG
    with log.open("wb") as out:
        supervisor = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + timeout
    while not (run / PLANE / STATE).exists():
        if supervisor.poll() is not None or time.monotonic() > deadline:
            supervisor.terminate()
            raise ProcessError(f"the control plane did not start:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.05)
    return Handle.load(run / PLANE)


def stop(run: Path, *, timeout: float = 20.0) -> bool:
    """Stop the control plane in `run` and wait until it is gone; False when there was none."""
    try:
        handle = Handle.load(run / PLANE)
    except FileNotFoundError:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(handle.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while running(handle.pid):
        if time.monotonic() > deadline:
            raise ProcessError(f"the control plane's supervisor (pid {handle.pid}) did not end within {timeout:g} s")
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    """Whether a process with this id exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # Linux; elsewhere a zombie counts as running until its parent looks
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
