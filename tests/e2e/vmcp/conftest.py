"""Fixtures of the gateway's end-to-end tests; each test file has a gateway of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.e2e.vmcp.kit import Client


@pytest_asyncio.fixture(loop_scope="module")
async def connect() -> AsyncIterator[Any]:
    """Return a function that opens clients, which end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(url: str, **options: Any) -> Client:
            return await stack.enter_async_context(Client(url, **options))

        yield opened
