"""Log set-up: JSON lines where a machine reads, aligned text where a person does. Secrets are cut in both.

Libraries log through the same chain. Two of them are silenced: kubernetes_asyncio's REST client writes whole answers at
debug level, Secrets included, and aiohttp's access log repeats what our metrics count.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

from runtime.observe.redact import redact_event

LEVELS = ("debug", "info", "warning", "error")
_SILENCED = ("kubernetes_asyncio", "aiohttp.access", "aiohttp.client", "aiohttp.server", "asyncio")


def configure_logging(
    level: str = "info",
    *,
    json: bool | None = None,
    processors: Sequence[Processor] = (),
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging for the whole process.

    Args:
        level: One of LEVELS.
        json: JSON lines, or text; None: JSON unless `stream` is a terminal.
        processors: Run on every line of ours before redaction, for example to add the running reconcile.
        stream: Where lines go; default stderr.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    as_json = not stream.isatty() if json is None else json
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *processors,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # texts before redaction; never with local variables
        redact_event,
    ]
    renderer: Processor = _render_json if as_json else _console(stream)
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=_Lines(stream)),  # type: ignore[arg-type]  # only write and flush
        cache_logger_on_first_use=False,
    )
    _configure_stdlib(number, chain, renderer, stream)


class _Lines:
    """Writes whole lines with one system call each, so that lines of two threads never mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        self._stream.flush()
        return written

    def flush(self) -> None:
        self._stream.flush()


def _render_json(_logger: Any, _method: str, event: Any) -> str:
    event["msg"] = event.pop("event", "")
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _console(stream: TextIO) -> Processor:
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    # The default formatter of exceptions prints local variables when `rich` is installed: values of Secrets among them.
    return structlog.dev.ConsoleRenderer(
        colors=colours,
        timestamp_key="ts",
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
    )


def _configure_stdlib(level: int, chain: list[Processor], renderer: Processor, stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *chain],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _SILENCED:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # Whatever the level: bodies of requests and answers are never logged.
    logging.getLogger("kubernetes_asyncio.client.rest").setLevel(logging.CRITICAL)
