"""Kinds that only hold configuration for others: what each of them does besides judging its own spec.

Such an object is held by a finalizer, and let go when nobody refers to it any more; meanwhile `DeletionBlocked` names
who does. Its status repeats a hash of the spec, by which those that use it see that it changed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from controllers.shared.verdicts import Unreadable
from runtime import Record


def hash_of(record: Record) -> str:
    """Return a hash of the spec; the order of its keys does not count."""
    return hashlib.sha256(orjson.dumps(record.path("spec"), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def hash_in_status(config: Any) -> str | None:
    """Return the hash that a configuration's status names; None where there is none."""
    if config is None or isinstance(config, Unreadable) or config.status is None:
        return None
    value = config.status.config_hash
    return value if isinstance(value, str) and value else None
