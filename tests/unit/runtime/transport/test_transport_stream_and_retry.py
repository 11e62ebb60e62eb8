"""Lines out of chunks, and which failures are tried again."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.transport import LineTooLongError, StalledError
from runtime.transport.retry import NotSentError, retrying, should_retry
from runtime.transport.stream import read_lines
from runtime.wire import ApiError, ServerError, TimeoutApiError, TooManyRequestsError, TransportError
from tests.support.fake_collection import refusal
from tests.support.virtual_time import now, run_virtual, virtual_time


class Chunks:
    def __init__(self, *chunks: bytes, pause: float = 0.0) -> None:
        self.chunks = [*chunks, b""]
        self.pause = pause

    async def readany(self) -> bytes:
        if self.pause:
            await asyncio.sleep(self.pause)
        return self.chunks.pop(0)


async def read(chunks: Chunks, **options: int) -> list[bytes]:
    return [line async for lines in read_lines(chunks, silence=lambda: 5.0, **options) for line in lines]


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b".")), max_size=6), st.data())
def test_lines_do_not_depend_on_how_the_bytes_arrive(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in itertools.pairwise([0, *cuts, len(whole)])]
    got = run_virtual(read(Chunks(*(piece for piece in pieces if piece))))
    assert got == [line for line in lines if line]


@virtual_time
async def test_a_line_without_its_end_is_dropped() -> None:
    assert await read(Chunks(b'{"a":1}\n{"b":', b"2}")) == [b'{"a":1}']


@virtual_time
async def test_a_line_beyond_the_limit_ends_the_stream() -> None:
    with pytest.raises(LineTooLongError):
        await read(Chunks(b"x" * 60, b"x" * 60), max_line=100)
    assert await read(Chunks(b"x" * 60, b"x" * 30 + b"\n"), max_line=100) == [b"x" * 90]


@virtual_time
async def test_silence_ends_the_stream_and_any_byte_is_a_sign_of_life() -> None:
    slow = Chunks(*[b"x"] * 10, b"\n", pause=4.0)
    assert await read(slow) == [b"x" * 10]
    assert now() == 48
    with pytest.raises(StalledError):
        await read(Chunks(b"x\n", b"y\n", pause=6.0))
    assert now() == 53


LARGE = refusal(504, "Timeout", retry_after=1, cause="ResourceVersionTooLarge")


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (refusal(429, "TooManyRequests", retry_after=1), True, True),
        (refusal(503, "ServiceUnavailable"), True, False),
        (refusal(503, "ServiceUnavailable", retry_after=1), True, True),
        (refusal(500, "InternalError"), True, False),
        (refusal(504, "Timeout"), True, False),
        (LARGE, False, True),
        (NotSentError("refused"), True, True),
        (TransportError("reset"), True, False),
        (refusal(404, "NotFound"), False, False),
        (refusal(409, "Conflict"), False, False),
        (refusal(401, "Unauthorized"), False, False),
        (ValueError("a bug"), False, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_write_is_repeated_only_when_it_has_not_happened(error: Exception, read: bool, write: bool) -> None:
    assert (should_retry(error, read=True), should_retry(error, read=False)) == (read, write)


async def attempts_until(error: ApiError, *, read: bool, attempts: int) -> int:
    made = 0

    async def once() -> None:
        nonlocal made
        made += 1
        raise error

    with pytest.raises(type(error)):
        await retrying(read=read, attempts=attempts)(once)
    return made


@virtual_time
async def test_the_servers_wish_is_obeyed_up_to_a_limit_and_tries_are_bounded() -> None:
    assert await attempts_until(TooManyRequestsError(429, "", "", 7.0), read=False, attempts=3) == 3
    assert 14 <= now() <= 15.4
    start = now()
    assert await attempts_until(TooManyRequestsError(429, "", "", 3600.0), read=False, attempts=2) == 2
    assert 30 <= now() - start <= 33


@virtual_time
async def test_without_a_wish_the_pauses_grow() -> None:
    assert await attempts_until(ServerError(500, "", "", None), read=True, attempts=10) == 10
    assert 10 <= now() <= 40
    assert await attempts_until(TimeoutApiError(504, "", "", None), read=False, attempts=10) == 1
