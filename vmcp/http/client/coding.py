"""Undoes the content coding of an answer piece by piece, so that a small answer cannot become a huge one unnoticed.

The gateway asks for none (`accept-encoding: identity`); servers and the proxies in front of them compress all the same
(RFC 9110, 8.4). gzip and deflate are always understood; br with Brotli 1.2 or newer and zstd with Python 3.14 or
`backports.zstd`, because only these can be told how much to give out at once.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from vmcp.http.client.errors import BadResponse, ResponseTooLarge

PIECE: Final = 64 * 1024
"""Bytes that are given out at once."""
FREE: Final = 4 * 1024 * 1024
"""Decoded bytes up to which nobody asks how well they were compressed."""
RATIO: Final = 100
"""Beyond `FREE`, an answer may grow so many times; text of tools compresses to a tenth or a twentieth."""
_WINDOW_LOG: Final = 23
"""zstd: windows of 8 MiB at most, as RFC 9659 has it for HTTP; a frame could ask for 128 MiB."""


class _Coding(Protocol):
    """A decompressor that can be told how much to give out.

    Attributes:
        hungry: Everything was given out that follows from the input so far.
        whole: The input ends where a compressed text may end.
    """

    hungry: bool
    whole: bool

    def take(self, data: bytes, limit: int) -> bytes:
        """Take more input, which must be empty unless `hungry`, and return at most about `limit` bytes."""
        ...


class _Zlib:
    """gzip (several members, too) and deflate, with zlib's head (RFC 1950) or, as some servers have it, without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._zlib: Any = zlib.decompressobj(31) if gzip else None
        self._input = b""
        self.hungry = True
        self.whole = True

    def take(self, data: bytes, limit: int) -> bytes:
        data = self._input + data
        if self._zlib is None:
            if len(data) < 2:
                self._input, self.whole = data, not data
                return b""
            with_head = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._zlib = zlib.decompressobj(15 if with_head else -15)
        elif self._zlib.eof and data:
            if not self._gzip:
                raise ValueError("bytes behind the end")
            self._zlib = zlib.decompressobj(31)
        out: bytes = self._zlib.decompress(data, limit)
        self._input = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
        self.hungry = not self._input and len(out) < limit
        self.whole = self._zlib.eof and not self._input
        return out


class _Brotli:
    """br (RFC 7932). One stream; a byte behind it is an error."""

    def __init__(self, library: Any) -> None:
        self._brotli = library.Decompressor()
        self.hungry = True
        self.whole = True

    def take(self, data: bytes, limit: int) -> bytes:
        out: bytes = self._brotli.process(data, output_buffer_limit=limit)
        self.whole = self._brotli.is_finished()
        # It says that it can accept more while it still has something to give out.
        self.hungry = self.whole or not out
        return out


class _Zstd:
    """Several frames, too."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._new()
        self._input = b""
        self.hungry = True
        self.whole = True

    def _new(self) -> None:
        options = {self._library.DecompressionParameter.window_log_max: _WINDOW_LOG}
        self._zstd = self._library.ZstdDecompressor(options=options)

    def take(self, data: bytes, limit: int) -> bytes:
        data = self._input + data
        if self._zstd.eof and data:
            self._new()
        out: bytes = b"" if self._zstd.eof else self._zstd.decompress(data, limit)
        self._input = self._zstd.unused_data
        self.whole = self._zstd.eof and not self._input
        self.hungry = self.whole or (not self._zstd.eof and self._zstd.needs_input)
        return out


def _find(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _known() -> dict[str, Callable[[], _Coding]]:
    known: dict[str, Callable[[], _Coding]] = {
        "gzip": lambda: _Zlib(gzip=True),
        "x-gzip": lambda: _Zlib(gzip=True),
        "deflate": lambda: _Zlib(gzip=False),
    }
    brotli = _find("brotli")
    if brotli is not None and hasattr(brotli.Decompressor, "can_accept_more_data"):
        known["br"] = lambda: _Brotli(brotli)
    zstd = _find("compression.zstd", "backports.zstd")
    if zstd is not None:
        known["zstd"] = lambda: _Zstd(zstd)
    return known


_CODINGS: Final = _known()


class Decoder:
    """The decoder of one answer: `feed` what arrives, `take` until nothing comes, `finish` at the end."""

    def __init__(self, name: str) -> None:
        """Look for the coding that `content-encoding` names.

        Raises:
            BadResponse: It is not known here, or there are several on top of each other.
        """
        found = _CODINGS.get(name.strip().lower())
        if found is None:
            raise BadResponse(f"the answer is encoded as {name[:32]!r}, which is not supported")
        self._name = name
        self._coding = found()
        self._waiting: list[bytes] = []
        self._came = 0
        self._gave = 0

    @property
    def empty(self) -> bool:
        """Everything was given out that follows from the input so far."""
        return not self._waiting and self._coding.hungry

    def feed(self, data: bytes) -> None:
        """Take encoded bytes."""
        self._waiting.append(data)
        self._came += len(data)

    def take(self) -> bytes:
        """Return about `PIECE` decoded bytes at most; b"" when more has to arrive first.

        Raises:
            BadResponse: It is not what it says it is.
            ResponseTooLarge: It grows beyond all measure.
        """
        while self._waiting or not self._coding.hungry:
            data = self._waiting.pop(0) if self._coding.hungry else b""
            try:
                out = self._coding.take(data, PIECE)
            except Exception:  # noqa: BLE001  each library has an error of its own
                raise BadResponse(f"the answer cannot be decoded as {self._name}") from None
            self._gave += len(out)
            if self._gave > FREE and self._gave > RATIO * self._came:
                raise ResponseTooLarge(f"the answer becomes more than {RATIO} times as long when it is decoded")
            if out:
                return out
        return b""

    def finish(self) -> None:
        """Take the end of the input; everything was taken.

        Raises:
            BadResponse: The compressed text does not end here.
        """
        if not self._coding.whole:
            raise BadResponse(f"the {self._name} of the answer ends too early")
