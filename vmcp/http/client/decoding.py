"""Undoes the content coding of a whole answer, in turns with the loop's other work.

A few hundred kilobytes may become 25 MiB, which takes a tenth of a second. The limits hold while it grows: what is
beyond them is never made.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from vmcp.http.client.errors import HttpTimeout, ResponseTooLarge
from vmcp.http.client.types import ClientLimits, Response
from vmcp.turns import LARGE, PIECE, turn


async def decoded(response: Response, limits: ClientLimits, deadline: float) -> Response:
    """Return an answer whose body is not encoded any more.

    Args:
        response: With a decoder that was fed all of the body.
        limits: Of its client.
        deadline: Loop time.

    Raises:
        BadResponse: The body is not what its head says it is.
        ResponseTooLarge: It grows beyond its limits.
        NoRoom: It does not fit beside other large answers.
        HttpTimeout: The deadline passed.
    """
    decoder, held = response.decoder, response.held
    assert decoder is not None
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = rested = 0
    while part := decoder.take():
        size += len(part)
        if size > limits.max_body:
            raise ResponseTooLarge(f"the answer is longer than {limits.max_body} bytes")
        if size > LARGE:
            if held is None:
                held = limits.answers.hold(size)
            else:
                held.reach(size)
        parts.append(part)
        if size - rested >= PIECE:
            rested = size
            if loop.time() > deadline:
                raise HttpTimeout("the answer could not be decoded in time", sent=True)
            await turn()
    decoder.finish()
    return replace(response, body=b"".join(parts), held=held, decoder=None)
