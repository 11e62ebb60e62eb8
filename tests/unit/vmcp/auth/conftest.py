"""What the tests of authentication share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.vmcp.issuer import Issuer


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """A real OpenID provider with a token endpoint."""
    async with Issuer() as server:
        yield server
