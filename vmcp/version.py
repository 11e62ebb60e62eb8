"""The version of this program: that of the installed package, which pyproject.toml names."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _installed() -> str:
    try:
        return version("mcp-operator")
    except PackageNotFoundError:
        # Run from a source tree; the images install the package.
        return _of_source()


def _of_source() -> str:
    try:
        text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "0.0.0"


VERSION = _installed()
