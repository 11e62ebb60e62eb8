"""An OIDC issuer for benchmarks: one key, a discovery document, tokens for one subject."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from joserfc import jwt
from joserfc.jwk import RSAKey

AUDIENCE = "bench"


class Issuer:
    """Serves discovery and keys on loopback from a thread.

    Attributes:
        url: The issuer's identifier.
    """

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(2048, {"kid": "bench", "use": "sig", "alg": "RS256"}, private=True)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = issuer.documents().get(self.path)
                body = json.dumps(found or {}).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def documents(self) -> dict[str, object]:
        """Return what is served, by path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"},
            "/jwks": {"keys": [self._key.as_dict(private=False)]},
        }

    def token(self) -> str:
        """Return a token that is good for an hour."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "bench", "aud": AUDIENCE, "iat": now, "exp": now + 3600, "groups": ["users"]}
        return jwt.encode({"alg": "RS256", "kid": "bench"}, claims, self._key)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
