"""A controller runtime on raw list/watch loops. Knows nothing of MCP.

The names that a controller needs are listed in `__init__.pyi`; everything else is private. Each is loaded on first use:
a program that only wants the metrics or the logs of the runtime does not pay for a Kubernetes client.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

_NAMES = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes()).body
_HOME_OF = {name.name: node.module for node in _NAMES if isinstance(node, ast.ImportFrom) for name in node.names}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605  read from the stub, so that no name is spelled twice


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
