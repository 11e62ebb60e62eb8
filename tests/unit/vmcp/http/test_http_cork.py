"""Head and body of an answer leave in one write, and a head without a body does not wait."""

from __future__ import annotations

import asyncio

from vmcp.http.cork import CorkedTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorder(asyncio.Transport):
    """Counts what reaches the system."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def corked() -> tuple[Recorder, CorkedTransport]:
    recorder = Recorder()
    return recorder, CorkedTransport(recorder, asyncio.get_running_loop())


async def test_head_and_body_are_one_write() -> None:
    recorder, transport = corked()
    transport.write(HEAD)
    transport.write(b"{}")
    await asyncio.sleep(0)
    transport.write(HEAD)
    transport.write(b"[]")
    await asyncio.sleep(0)
    assert recorder.writes == [HEAD + b"{}", HEAD + b"[]"]


async def test_the_head_of_a_stream_leaves_within_one_turn_of_the_loop() -> None:
    recorder, transport = corked()
    transport.write(HEAD)
    assert recorder.writes == []
    await asyncio.sleep(0)
    assert recorder.writes == [HEAD]
    transport.write(b"data: x\n\n")
    assert recorder.writes[1:] == [b"data: x\n\n"]


async def test_interim_answers_and_bodies_are_not_held() -> None:
    recorder, transport = corked()
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    transport.write(b"body")
    assert recorder.writes == [b"HTTP/1.1 100 Continue\r\n\r\n", b"body"]


async def test_closing_sends_what_is_held_and_nothing_is_sent_after_that() -> None:
    recorder, transport = corked()
    transport.write(HEAD)
    transport.close()
    assert (recorder.writes, transport.is_closing()) == ([HEAD], True)
    await asyncio.sleep(0)
    assert recorder.writes == [HEAD]
