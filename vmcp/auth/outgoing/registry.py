"""Every outgoing strategy of this gateway, by the name that configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from api.contract.auth import Strategy
from vmcp.auth.outgoing.header_injection import HeaderInjectionSettings
from vmcp.auth.outgoing.strategy import OutgoingSettings, ReadSecret
from vmcp.auth.outgoing.token_exchange import TokenExchangeSettings
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings

STRATEGIES: Final[Mapping[str, type[OutgoingSettings]]] = MappingProxyType(
    {kind.method: kind for kind in (UnauthenticatedSettings, HeaderInjectionSettings, TokenExchangeSettings)}
)


def read_strategy(strategy: Strategy | None, secret: ReadSecret) -> OutgoingSettings:
    """Return the settings of a backend's strategy; no strategy at all means that the backend asks for nothing.

    A strategy that is unknown or incomplete is read as `unauthenticated`, and never gets as far as a request: the
    contract's checks refuse it, and its backend is left out.
    """
    kind = None if strategy is None else STRATEGIES.get(strategy.type)
    found = None if kind is None or strategy is None else kind.read(strategy, secret)
    return found or UnauthenticatedSettings()
