"""Run a command that dies with its parent: `guard.py PARENT_PID COMMAND...`.

A program of its own instead of `preexec_fn`, because code between fork and exec is not safe in a process with threads.
Asks the kernel for SIGKILL on the parent's death (Linux) and becomes the command: the process id stays.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then exec."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before prctl: no signal will come
            sys.exit(1)
    os.execv(command[0], command)


main()
