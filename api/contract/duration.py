"""Durations as Go's `time.Duration` reads and prints them; the gateway's configuration holds them as such text.

The arithmetic follows the documented behaviour of `time.ParseDuration` and `Duration.String`: 64 bits of nanoseconds,
digits beyond a nanosecond cut, an overflow refused.
"""

from __future__ import annotations

import re
from typing import Self

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign, what Go prints
    "\u03bcs": 10**3,  # Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]*)")
_LIMIT = 1 << 63


class Duration(int):
    """A length of time in nanoseconds; compares and adds as a number, prints as Go does (`1m30s`).

    `Duration.parse("1m30s")`, `Duration.of(seconds=90)`, `.seconds` for timers.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Go duration: a sign, then numbers with fraction and unit, as in `1h15m30.5s`; or `0`.

        Raises:
            ValueError: not a Go duration, or longer than 64 bits of nanoseconds.
        """
        negative = text.startswith("-")
        rest = text[1:] if text[:1] in ("-", "+") else text
        if rest == "0":
            return cls(0)
        if not rest:
            raise ValueError(f"{text!r} is not a duration; write for example 30s, 1m30s or 500ms")
        total = 0
        position = 0
        while position < len(rest):
            match = _PART.match(rest, position)
            assert match is not None  # every group may be empty
            total += _nanoseconds(text, match)
            if total > _LIMIT:
                raise ValueError(f"{text!r} is too long for a duration")
            position = match.end()
        if negative:
            return cls(-total)
        if total == _LIMIT:
            raise ValueError(f"{text!r} is too long for a duration")
        return cls(total)

    @classmethod
    def of(cls, *, seconds: float) -> Self:
        """Make a duration from seconds."""
        return cls(round(seconds * 10**9))

    @property
    def seconds(self) -> float:
        """The length in seconds, for timers."""
        return int(self) / 10**9

    def __str__(self) -> str:
        size = abs(int(self))
        sign = "-" if self < 0 else ""
        if size == 0:
            return "0s"
        if size < 10**3:
            return f"{sign}{size}ns"
        if size < 10**6:
            return f"{sign}{_decimal(size, 10**3)}\u00b5s"
        if size < 10**9:
            return f"{sign}{_decimal(size, 10**6)}ms"
        minutes, remainder = divmod(size, 60 * 10**9)
        text = f"{_decimal(remainder, 10**9)}s"
        if minutes:
            hours, minutes = divmod(minutes, 60)
            text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
        return sign + text

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def _nanoseconds(text: str, match: re.Match[str]) -> int:
    whole, point, fraction, unit = match.groups()
    if not whole and not fraction:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 1m30s or 500ms")
    if not unit:
        raise ValueError(f"{text!r} lacks a unit; write for example 30s, 1m30s or 500ms")
    if unit not in _UNITS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; known are ns, us, ms, s, m and h")
    size = _UNITS[unit]
    count = int(whole[:30] or "0") if len(whole.lstrip("0")) <= 20 else _LIMIT + 1
    if count > _LIMIT // size:
        raise ValueError(f"{text!r} is too long for a duration")
    return count * size + (_fraction(fraction, size) if point and fraction else 0)


def _fraction(digits: str, size: int) -> int:
    # Go keeps the digits that fit into 63 bits, then multiplies in floating point and cuts.
    kept = 0
    scale = 1.0
    for digit in digits:
        longer = kept * 10 + int(digit)
        if kept > (_LIMIT - 1) // 10 or longer > _LIMIT:
            break
        kept = longer
        scale *= 10
    return int(float(kept) * (float(size) / scale))


def _decimal(size: int, unit: int) -> str:
    whole, rest = divmod(size, unit)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
