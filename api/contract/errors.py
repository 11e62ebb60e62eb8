"""What is wrong with a configuration: every mistake at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class ConfigError:
    """One mistake.

    Attributes:
        path: where, for example `backends[3].caBundlePath`; empty for the document as a whole.
        message: what is wrong and what would be right. Never holds the value of a field that may be secret.
        backends: positions in `backends` of those that the mistake costs; None = it costs the whole document.
        missing: nothing is wrong with the document; a variable or file that it names is not there, maybe not yet.
    """

    path: str
    message: str
    backends: tuple[int, ...] | None = field(default=None, compare=False)
    missing: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigErrors(Exception):  # noqa: N818  a configuration has errors; the exception carries all of them
    """The configuration cannot be used; `errors` holds every mistake found, in the order of the document."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"invalid configuration ({len(self.errors)} found)")

    def __str__(self) -> str:
        return "invalid configuration:\n" + "\n".join(f"  - {error}" for error in self.errors)


def join(*steps: str | int) -> str:
    """Write a path: names joined by dots, positions in brackets."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step:
            text += f".{step}" if text else step
    return text
