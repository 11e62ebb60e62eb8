"""The operator runs on uvloop, tools and the elector's thread on asyncio's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runtime.manager.loop import OperatorLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops: transports differ in how they close, time out and report errors."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": OperatorLoop}
