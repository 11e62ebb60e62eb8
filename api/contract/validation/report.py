"""Where the checks put what they find."""

from __future__ import annotations

from collections.abc import Iterable

from api.contract.errors import ConfigError
from api.contract.nearest import nearest


class Report:
    """Collects mistakes; nothing stops at the first one."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def add(self, path: str, message: str) -> None:
        """Note a mistake."""
        self.errors.append(ConfigError(path, message))

    def require(self, path: str, value: object) -> bool:
        """Note that something is missing; return whether it is there."""
        if not value:
            self.add(path, "is required")
        return bool(value)

    def one_of(self, path: str, value: str, known: Iterable[str], *, optional: bool = False) -> bool:
        """Note an unknown word; return whether it is known (or absent, where that is allowed)."""
        words = list(known)
        if not value:
            return optional or self.require(path, value)
        if value in words:
            return True
        self.add(path, f'unknown value "{value}"{nearest(value, words)}')
        return False

    def unique(self, path: str, names: Iterable[str], key: str, what: str) -> None:
        """Note names that stand more than once, at their second place."""
        seen: dict[str, int] = {}
        for index, name in enumerate(names):
            if name and name in seen:
                self.add(f"{path}[{index}].{key}", f'{what} "{name}" is already used by {path}[{seen[name]}]')
            seen.setdefault(name, index)
