"""SIGTERM and SIGINT: once asks for a graceful stop, twice ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

log = structlog.get_logger("manager")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def handle_signals(stop: Callable[[], None], *, exit_process: Callable[[int], object] = os._exit) -> None:
    """Install the handlers on the running loop. Only the composition root does this, once.

    Args:
        stop: Called for the first signal.
        exit_process: Called with 1 for the second: whoever sends two does not want to wait.
    """
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: signal.Signals) -> None:
        nonlocal received
        received += 1
        if received > 1:
            exit_process(1)
        log.info("signal received: stopping; send it again to exit at once", signal=number.name)
        stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
