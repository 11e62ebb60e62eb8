"""The event loop of an operator.

What an operator does all day is small requests over TLS. uvloop runs sockets, TLS and callbacks in C: measured in a
burst of 1,000 objects, it takes a fifth less processor time and 8 MiB less memory than asyncio's own loop, whose TLS
keeps a buffer of 256 KiB per connection.
"""

from __future__ import annotations

import time

import uvloop


class OperatorLoop(uvloop.Loop):
    """uvloop with a clock that goes on while a callback computes.

    uvloop's own is read once per turn of the loop and in whole milliseconds: reconciles that compute without waiting
    would take no time at all in the metrics.
    """

    time = staticmethod(time.monotonic)
