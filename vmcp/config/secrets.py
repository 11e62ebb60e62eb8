"""Where values of Secrets come from: the process's environment, and Secrets that were read by name.

Everything that resolves a configuration asks one `SecretSource` (`api.contract.secrets`). None of them shows a value in
its `repr`, so that a traceback or a log line of one holds names at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.contract.secrets import SecretSource


@dataclass(frozen=True, slots=True)
class EnvironmentSecrets:
    """Variables of the process, which Kubernetes fills from Secrets when it starts the pod."""

    environ: Mapping[str, str] = field(repr=False)

    def get(self, variable: str, default: str = "", /) -> str:
        """Return the value of a variable."""
        return self.environ.get(variable, default)


@dataclass(frozen=True, slots=True)
class NamedSecrets:
    """Values of Secrets that were read by name, in front of another source.

    Attributes:
        values: variable -> value.
        otherwise: asked for every other variable.
    """

    values: Mapping[str, str] = field(repr=False)
    otherwise: SecretSource = field(repr=False)

    def get(self, variable: str, default: str = "", /) -> str:
        """Return the value of a variable."""
        if variable in self.values:
            return self.values[variable]
        return self.otherwise.get(variable, default)
