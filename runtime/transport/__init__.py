"""HTTP towards one API server: where it is, who we are, connections, retries, watch streams.

The only package that imports aiohttp and kubernetes_asyncio. The latter supplies what a kubeconfig means; its HTTP
client, models and Watch are not used, for measured reasons (docs/design/004-transport.md).
"""

from runtime.transport.config import ConfigurationError, Endpoint, load_endpoint
from runtime.transport.session import Answer, RequestDone, Transport, TransportSettings, WriteFencedError
from runtime.transport.stream import LineTooLongError, StalledError

__all__ = [
    "Answer",
    "ConfigurationError",
    "Endpoint",
    "LineTooLongError",
    "RequestDone",
    "StalledError",
    "Transport",
    "TransportSettings",
    "WriteFencedError",
    "load_endpoint",
]
