"""Which addresses a backend's name may lead to: the URL was judged by its text, a look-up can lead anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from api.contract.hosts import always_blocked, is_loopback

Network = IPv4Network | IPv6Network


class Reach:
    """Judges addresses that were looked up.

    Loopback, link-local and metadata addresses are refused for names, and for spellings of addresses that only some
    resolvers understand. A loopback address that stands in the URL as such, or `localhost`, was meant.
    """

    def __init__(self, open_networks: Iterable[str] = ()) -> None:
        """Take the networks (CIDR) that may be connected to although they are among the refused.

        Raises:
            ValueError: One is no network.
        """
        self._open: tuple[Network, ...] = tuple(ip_network(network) for network in open_networks)

    def allows(self, host: str, address: str) -> bool:
        """Whether a connection for `host` may go to `address`, an IP address."""
        return not always_blocked(address) or self.is_open(host, address)

    def is_open(self, host: str, address: str) -> bool:
        """Whether `address` was opened, or is a loopback address that `host` means."""
        found = ip_address(address.partition("%")[0])
        if any(found in network for network in self._open):
            return True
        return is_loopback(address) and is_this_machine(host) and (not _is_address(host) or host == address)


def is_this_machine(host: str) -> bool:
    """Whether a URL's host says that this machine is meant: `localhost`, or a loopback address in its plain form."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(host) and is_loopback(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
