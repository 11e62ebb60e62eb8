"""Somebody else is served, memory stays bounded and all is well soon, while each limit is driven."""

from __future__ import annotations

import pytest

from hack.hostile_matrix.house import MAX_BACK, MAX_RSS, measure

PATIENCE = 2.0
"""Seconds that the bystander may wait at most: the tests share their machine, so the figures proper come from
`make hostile-matrix`."""


@pytest.mark.timeout(1800)
async def test_a_bystander_is_served_while_every_limit_is_driven(scale):
    for row in await measure(full=scale.long, seconds=0.5, calm=PATIENCE / 4):
        assert not row.failed, row
        assert row.p99 < PATIENCE, row
        assert row.rss <= MAX_RSS, row
        assert row.back <= MAX_BACK, row
