"""FastMCP's proxy in front of one backend: as shipped, or tuned as users do it (one TLS context for all clients)."""

from __future__ import annotations

import argparse
import ssl

import uvicorn
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", required=True, help="MCP endpoint")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--era", choices=("modern", "legacy"), required=True, help="protocol towards the backend")
    parser.add_argument("--tuned", action="store_true", help="share the TLS context, which costs 20 ms to make")
    args = parser.parse_args()
    verify = ssl.create_default_context() if args.tuned else None
    transport = StreamableHttpTransport(args.backend, verify=verify)
    mode = "2026-07-28" if args.era == "modern" else "legacy"
    app = create_proxy(transport, mode=mode).http_app(path="/mcp")
    uvicorn.run(app, port=args.port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
