"""The client of controllers: cached reads, live writes, typed errors."""

from runtime.client.client import Client
from runtime.client.conflict import retry_on_conflict

__all__ = ["Client", "retry_on_conflict"]
