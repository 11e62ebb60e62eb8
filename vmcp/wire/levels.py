"""How severe a log message is (MCP `logging/setLevel`, RFC 5424 section 6.2.1): the one comparison of levels."""

from __future__ import annotations

from typing import Final

from vmcp.wire.protocol import LOG_LEVELS

_RANK: Final = {level: rank for rank, level in enumerate(LOG_LEVELS)}


def reaches(said: str | None, wanted: str | None) -> bool:
    """Say whether a message of the level `said` is one for whoever wants `wanted` and more severe ones.

    Args:
        said: The message's level. One that is unknown, or missing, counts as the least severe.
        wanted: None = no messages at all.
    """
    return wanted is not None and _RANK.get(said or "", 0) >= _RANK.get(wanted, 0)
