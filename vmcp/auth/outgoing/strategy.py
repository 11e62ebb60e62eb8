"""What every outgoing strategy is made of: settings that read themselves from the configuration and build the rest.

A new strategy is one module with a subclass of `OutgoingSettings` and an implementation of `BackendAuth`, and one line
in `vmcp.auth.outgoing.registry`. Which strategies a configuration may ask for is in the contract
(`api.contract.support.STRATEGIES`), because the operator refuses the others before a gateway sees them; a test compares
the two lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from api.contract.auth import Strategy
from api.contract.urls import HttpUrl, read_http_url
from vmcp.auth.fetch import AiohttpFetcher, Overrides
from vmcp.auth.interface import BackendAuth
from vmcp.http.client import Reach

ReadSecret = Callable[[str, str], str]
"""(environment variable, literal) -> the secret: the variable's value if it has one, else the literal. "" = neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoints:
    """What the command line says about token endpoints.

    Attributes:
        resolve: Addresses to use instead of looking their names up.
        reach: Private addresses that they may have.
        allow_http: They may be without TLS.
        opaque: How opaque tokens are checked (`TokenExchangeAuth`), by the URL of the endpoint that issues them.
    """

    resolve: Overrides | None = None
    reach: Reach = field(default_factory=Reach)
    allow_http: bool = False
    opaque: Mapping[str, str] = field(default_factory=dict)

    def opaque_of(self, token_url: str) -> str | None:
        """Return how the opaque tokens of an endpoint are checked; None = they are refused."""
        wanted = _identity(token_url)
        return next((way for url, way in self.opaque.items() if _identity(url) == wanted), None)

    def fetcher(self) -> AiohttpFetcher:
        """Return a client for token endpoints; whoever gets it closes it."""
        return AiohttpFetcher(resolve=self.resolve, allow_private=False, allow_http=self.allow_http, reach=self.reach)


def _identity(url: str) -> HttpUrl | str:
    """Return what is equal for spellings of one URL: of the host, and of the port that is the scheme's."""
    try:
        return replace(read_http_url(url), written="")
    except ValueError:
        return url


class OutgoingSettings(ABC):
    """What the configuration says about one backend's strategy: a frozen dataclass, compared on reload.

    Attributes:
        method: The strategy's name, as in `type` of the configuration.
    """

    __slots__ = ()

    method: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, strategy: Strategy, secret: ReadSecret) -> Self | None:
        """Return the settings of a strategy of this type; None when its own section is missing."""

    @abstractmethod
    def build(self, endpoints: TokenEndpoints) -> BackendAuth:
        """Return the running strategy. Does no IO."""
