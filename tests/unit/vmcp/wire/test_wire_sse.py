"""The event stream parser gives the same events however the bytes are cut, and stops at its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.wire.sse import SseError, SseEvent, SseParser, comment, encode

STREAM = (
    b"\xef\xbb\xbf: hello\r\n\r\nid: 1\r\ndata: a\r\ndata:b\r\n\r\nevent: endpoint\rdata: /x\r\r"
    b"retry: 1500\nid: 2\ndata:\n\nunknown: x\ndata:  two spaces\n\nid:\n\ndata\n\nretry: 1x\n\ndata: cut off\n"
)
EVENTS = [
    SseEvent(b"a\nb", "message", "1"),
    SseEvent(b"/x", "endpoint", None),
    SseEvent(b"", "message", "2"),
    SseEvent(b" two spaces", "message", None),
    SseEvent(b"", "message", ""),
    SseEvent(b"", "message", None),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_events_do_not_depend_on_where_the_stream_is_cut(cuts: list[int]) -> None:
    parser = SseParser()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        found += parser.feed(STREAM[start:end])
    assert found == EVENTS
    assert parser.retry == 1.5
    assert parser.last_id == ""


def test_byte_by_byte_is_no_different() -> None:
    parser = SseParser()
    assert [event for i in range(len(STREAM)) for event in parser.feed(STREAM[i : i + 1])] == EVENTS


@given(st.binary().filter(lambda data: b"\r" not in data), st.none() | st.just("id-1"))
def test_what_is_encoded_comes_back(data: bytes, id: str | None) -> None:  # noqa: A002
    assert SseParser().feed(comment(b"x\ny") + encode(data, id=id)) == [SseEvent(data, "message", id)]


def test_retry_and_type_are_encoded() -> None:
    parser = SseParser()
    assert parser.feed(encode(b"{}", event="endpoint", retry=0.25)) == [SseEvent(b"{}", "endpoint", None)]
    assert parser.retry == 0.25


@pytest.mark.parametrize("field", ["id", "event"])
def test_a_field_cannot_break_its_frame(field: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        encode(b"", **{field: "a\ndata: forged"})


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 100, b"data: xxxxxxxxxx\n" * 10, b": " + b"c" * 100])
def test_an_event_beyond_the_limit_ends_the_stream(chunk: bytes) -> None:
    parser = SseParser(max_event=50)

    def feed_in_pieces() -> None:
        for i in range(0, len(chunk), 7):
            parser.feed(chunk[i : i + 7])

    with pytest.raises(SseError, match="50 bytes"):
        feed_in_pieces()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_counts_however_the_stream_is_cut_and_whatever_the_line_says(size: int) -> None:
    parser = SseParser(max_event=50)
    stream = b"data: a\n" + b"unknown: " + b"x" * 50 + b"\n\n"

    def feed_in_pieces() -> None:
        for i in range(0, len(stream), size):
            parser.feed(stream[i : i + size])

    with pytest.raises(SseError, match="50 bytes"):
        feed_in_pieces()


def test_many_small_events_never_reach_the_limit() -> None:
    parser = SseParser(max_event=50)
    assert len(parser.feed(b"data: 0123456789\n\n" * 1000)) == 1000
