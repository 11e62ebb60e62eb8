"""Where the checks put what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from api.contract.config import VmcpConfig
from api.contract.errors import ConfigError
from api.contract.nearest import nearest


class Findings:
    """Collects mistakes; nothing stops at the first one."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self.costs: tuple[int, ...] | None = None
        """The backends that what is found now costs; None = the whole document. `costing` sets it for a while."""

    def add(self, path: str, message: str, *, missing: bool = False) -> None:
        """Note a mistake; `missing`: something that the document names is not there."""
        self.errors.append(ConfigError(path, message, self.costs, missing))

    @contextmanager
    def costing(self, backends: tuple[int, ...] | None) -> Iterator[None]:
        """Note that what is found meanwhile costs these backends only (None: the whole document)."""
        before, self.costs = self.costs, backends
        try:
            yield
        finally:
            self.costs = before

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

    def unique(
        self,
        path: str,
        names: Iterable[str],
        key: str,
        what: str,
        costs: Callable[[int, str], tuple[int, ...] | None] = lambda _index, _name: None,
    ) -> None:
        """Note names that stand more than once, at their second place; empty ones do not count.

        Args:
            path: of the list.
            names: of its items, in their order.
            key: of an item's name.
            what: an item is, for the sentence.
            costs: (index, name) -> places of the backends that a second name costs; None: the whole document.
        """
        seen: dict[str, int] = {}
        for index, name in enumerate(names):
            if name and name in seen:
                with self.costing(costs(index, name)):
                    self.add(f"{path}[{index}].{key}", f'{what} "{name}" is already used by {path}[{seen[name]}]')
            seen.setdefault(name, index)


class Positions:
    """Where the backends of a configuration stand, by name.

    A gateway that finds its backends itself has none in its configuration: there every mistake costs the document.
    """

    def __init__(self, config: VmcpConfig) -> None:
        self._backends = config.backends
        self._by_name: dict[str, tuple[int, ...]] = {}

    def of(self, name: str) -> tuple[int, ...] | None:
        """Return the positions of the backends of this name; () when there is none."""
        return self._table().get(name, ()) if self._backends else None

    def except_for(self, names: Iterable[str]) -> tuple[int, ...] | None:
        """Return the positions of all backends but those of these names."""
        if not self._backends:
            return None
        left_out = set(names)
        return tuple(sorted(i for name, found in self._table().items() if name not in left_out for i in found))

    def _table(self) -> dict[str, tuple[int, ...]]:
        # Made when it is asked for: most configurations have thousands of backends and nothing that names one.
        if not self._by_name:
            for index, backend in enumerate(self._backends):
                self._by_name[backend.name] = (*self._by_name.get(backend.name, ()), index)
        return self._by_name
