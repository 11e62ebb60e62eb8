"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("mcp-operator")
    except PackageNotFoundError:
        # Run from a source tree; the images install the package.
        return "0.1.0"


VERSION = _installed()
