"""A warning that comes by the thousand is written once, and counted until the next line is due."""

from __future__ import annotations

from vmcp.observe.seldom import EVERY, MAX_KINDS, SeldomLog


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[dict[str, object]] = []

    def warning(self, event: str, **details: object) -> None:
        self.all.append({"event": event, **details})


def seldom() -> tuple[SeldomLog, Lines, list[float]]:
    lines, now = Lines(), [0.0]
    return SeldomLog(lines, clock=lambda: now[0]), lines, now


def test_the_first_is_written_at_once_and_the_next_says_how_many_were_not():
    log, lines, now = seldom()
    for _ in range(1000):
        log.warning("refused", reason="OOM")
    now[0] = EVERY
    log.warning("refused", reason="OOM")
    assert lines.all == [
        {"event": "refused", "reason": "OOM"},
        {"event": "refused", "reason": "OOM", "repeated": 999},
    ]


def test_another_reason_is_another_line():
    log, lines, _ = seldom()
    for reason in ("OOM", "NOPERM", "OOM", "NOPERM"):
        log.warning("refused", reason=reason)
    assert [line["reason"] for line in lines.all] == ["OOM", "NOPERM"]


def test_what_is_told_apart_is_bounded_and_has_room_again_later():
    log, lines, now = seldom()
    for number in range(10 * MAX_KINDS):
        log.warning("refused", reason=str(number))
    assert len(lines.all) == MAX_KINDS
    now[0] = EVERY
    log.warning("refused", reason="another")
    assert lines.all[-1] == {"event": "refused", "reason": "another"}
