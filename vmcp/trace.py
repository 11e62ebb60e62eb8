"""W3C trace context: read from headers or `_meta`, passed on as it came, written to both.

Only the context travels. The gateway exports no spans, so it makes up no span id either: one that nobody ever reports
would cut the backend's spans off from their parent. The rules are those of the W3C recommendation (level 1): a
malformed `traceparent` is none, and drops `tracestate`; unknown versions are read as version 00. A request without one
belongs to no trace: that is its sender's decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_MAX_STATE = 512
_MAX_BAGGAGE = 8192
_VISIBLE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a distributed trace.

    Attributes:
        trace_id: 32 lower-case hex digits, not all zero.
        span_id: 16 lower-case hex digits: the span that asks.
        flags: Two hex digits; bit 0 = sampled.
        tracestate: Vendors' part, as it came; empty = none.
        baggage: As it came; empty = none.
    """

    trace_id: str
    span_id: str
    flags: str = "00"
    tracestate: str = ""
    baggage: str = ""

    @property
    def traceparent(self) -> str:
        """The header value, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs to write, for headers and for `_meta` alike."""
        pairs = [("traceparent", self.traceparent)]
        if self.tracestate:
            pairs.append(("tracestate", self.tracestate))
        if self.baggage:
            pairs.append(("baggage", self.baggage))
        return tuple(pairs)


def parse(fields: Mapping[str, str]) -> TraceContext | None:
    """Read a context from lower-case keys; None when there is none or it is malformed."""
    parent = fields.get("traceparent", "")
    match = _TRACEPARENT.fullmatch(parent.strip()) if len(parent) < 256 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == "00" and rest):
        return None
    return TraceContext(
        trace_id,
        span_id,
        flags,
        _bounded(fields.get("tracestate", ""), _MAX_STATE),
        _bounded(fields.get("baggage", ""), _MAX_BAGGAGE),
    )


def _bounded(value: str, limit: int) -> str:
    """Drop what is too long or could break a header line: a trace is never worth a failed call."""
    return value if len(value) <= limit and _VISIBLE.fullmatch(value) else ""
