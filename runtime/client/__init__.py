"""The client of controllers: cached reads, live writes, typed errors."""

from runtime.client.client import Client

__all__ = ["Client"]
