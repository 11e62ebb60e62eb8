"""Server-sent events: an incremental parser with limits, and an encoder.

The parser follows the WHATWG event stream grammar (CR, LF and CRLF line ends, one optional BOM, comments, `id`
without NUL, `retry` of digits only) and works on bytes: data lines are joined, never decoded,
so a payload arrives as it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_EVENT: Final = 16 * 1024 * 1024
"""Default limit of one event, bytes."""

_BOM: Final = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The stream breaks a limit."""


@dataclass(slots=True, frozen=True)
class SseEvent:
    """One dispatched event.

    Attributes:
        data: The data lines, joined by LF; b"" for an event that only carries an id or a retry.
        event: The event's type; "message" is the default.
        id: The id of this event; None = the block had no `id` field.
    """

    data: bytes
    event: str = "message"
    id: str | None = None


class SseParser:
    """Turns chunks of any size into events.

    Attributes:
        retry: Seconds, from the newest `retry:` field of the stream; None = never sent. Reading does not reset it.
        last_id: The newest id of the stream, "" when the server reset it; None = never sent.
    """

    __slots__ = ("_cr", "_data", "_event", "_first", "_id", "_limit", "_line", "_size", "last_id", "retry")

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._limit = max_event
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id: str | None = None
        self._cr = False
        self._first = True
        self.retry: float | None = None
        self.last_id: str | None = None

    @property
    def pending(self) -> int:
        """Bytes of the event that is not complete yet."""
        return len(self._line) + self._size

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that `chunk` completes.

        Raises:
            SseError: An event is longer than the limit.
        """
        events: list[SseEvent] = []
        if not chunk:
            return events
        if self._cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._cr = chunk[-1:] == b"\r"
        lines = (
            chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if b"\r" in chunk else chunk.split(b"\n")
        )
        self._take(lines[0])
        for rest in lines[1:]:
            event = self._on_line(bytes(self._line))
            if event is not None:
                events.append(event)
            self._line.clear()
            self._take(rest)
        return events

    def end(self) -> SseEvent | None:
        """Return the event that the stream ended in, without its id: it was never dispatched."""
        if self._line:
            self._on_line(bytes(self._line))
            self._line.clear()
        self._id = None
        return self._dispatch()

    def _take(self, piece: bytes) -> None:
        """Add to the line that is being read; its length counts wherever the chunks end, and whatever it says."""
        if len(self._line) + len(piece) + self._size > self._limit:
            raise SseError(f"an event of the stream is longer than {self._limit} bytes")
        self._line += piece

    def _on_line(self, line: bytes) -> SseEvent | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            if self._size > self._limit:
                raise SseError(f"an event of the stream is longer than {self._limit} bytes")
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = self.last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> SseEvent | None:
        data, event, event_id = self._data, self._event, self._id
        self._data, self._event, self._id, self._size = [], "", None, 0
        if not data and event_id is None:
            return None
        return SseEvent(b"\n".join(data), event or "message", event_id)


def encode(data: bytes, *, event: str | None = None, id: str | None = None, retry: float | None = None) -> bytes:  # noqa: A002
    """Return one event; `retry` in seconds. `event` and `id` must not hold line ends.

    Raises:
        ValueError: A field would break the frame.
    """
    parts: list[bytes] = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"the SSE field {name!r} must be one line")
            parts.append(f"{name}: {value}\n".encode())
    if retry is not None:
        parts.append(b"retry: %d\n" % int(retry * 1000))
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        parts.extend(b"data: %b\n" % line for line in lines)
    else:
        parts.append(b"data: %b\n" % data)
    parts.append(b"\n")
    return b"".join(parts)


def comment(text: bytes = b"") -> bytes:
    """Return a comment frame, used as keep-alive."""
    return b": %b\n\n" % text.replace(b"\n", b" ").replace(b"\r", b" ")
