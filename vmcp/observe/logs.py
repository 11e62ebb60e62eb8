"""Structured logs: JSON lines for machines, coloured ones on a terminal; always on standard error, always redacted.

The success path of a call logs nothing: that is what the audit log and the metrics are for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from vmcp.observe.redact import REDACTED, Redactor, is_secret_key

EventDict = MutableMapping[str, Any]

MAX_TEXT = 16 * 1024
"""Characters of one text in a log line: what clients and backends say may be as long as they like."""
_NOISY = ("uvicorn", "aiohttp", "asyncio")


class RedactingProcessor:
    """structlog processor; the redactor can be exchanged when a reload brings new secrets."""

    def __init__(self, redactor: Redactor) -> None:
        """Start with `redactor`."""
        self.redactor = redactor

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Return the event without secrets."""
        for key, value in list(event.items()):
            if key.startswith("_"):
                continue
            if is_secret_key(key) and value:
                event[key] = REDACTED
            elif not isinstance(value, int | float | bool | None):
                event[key] = self.redactor.value(value, limit=MAX_TEXT)
        return event


_processor = RedactingProcessor(Redactor())


def set_secrets(redactor: Redactor) -> None:
    """Redact these secrets from now on."""
    _processor.redactor = redactor


def current_redactor() -> Redactor:
    """Return the redactor in use."""
    return _processor.redactor


def configure(*, debug: bool = False, stream: TextIO | None = None, json: bool | None = None) -> None:
    """Set up structlog, and the standard library's logging to go the same way.

    Args:
        debug: Log at debug level; else info.
        stream: Where to; standard error.
        json: JSON lines; None = unless `stream` is a terminal.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _processor,
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(),
    ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared[:2], *shared[3:], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        cache_logger_on_first_use=False,
    )
