"""A small identity provider, on loopback or in a pod: discovery, a key set that rotates, an RFC 8693 token endpoint,
and an RFC 7662 introspection endpoint for the opaque tokens that it issues.

It signs with real keys and checks what it is sent, so tests can tell a gateway that works from one that only looks so.
Every knob is a fault that a real provider shows one day.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

_KEYS: dict[str, RSAKey] = {}


def rsa_key(kid: str) -> RSAKey:
    """Return one RSA key per kid and process: making one takes 50 ms."""
    if kid not in _KEYS:
        _KEYS[kid] = RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})
    return _KEYS[kid]


class Issuer:
    """An issuer; `async with Issuer() as issuer`."""

    def __init__(self) -> None:
        self.keys: list[RSAKey | ECKey] = [rsa_key("k1")]
        self.url = ""
        self.down = False
        self.redirect_to = ""
        self.status = 200
        self.cache_control = ""
        self.jwks_document: bytes | None = None
        self.discovery: dict[str, Any] = {}
        self.jwks_requests = 0
        self.discovery_requests = 0
        self.exchanges: list[dict[str, str]] = []
        self.exchange_headers: list[dict[str, str]] = []
        self.exchange_audience: str | list[str] | None = None
        self.exchange_status = [200]
        self.exchange_body: bytes | None = None
        self.exchange_gate: Any = None
        self.opaque_exchange = False
        self.introspections: list[dict[str, str]] = []
        self.introspection_headers: list[dict[str, str]] = []
        self.introspection_status = [200]
        self.introspection_body: bytes | None = None
        self.introspection_gate: Any = None
        self.told: dict[str, Any] = {}
        """Put over what introspection says; None leaves a member out."""
        self._opaque: dict[str, dict[str, Any]] = {}
        self.expires_in: int | None = 300
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.app(), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def app(self) -> web.Application:
        """Its endpoints, for whoever serves them elsewhere."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/token", self._token)
        app.router.add_post("/introspect", self._introspect)
        return app

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @property
    def incoming(self) -> dict[str, Any]:
        """`incomingAuth` of a gateway that trusts this issuer, over plain HTTP on loopback."""
        oidc = {"issuer": self.url, "clientId": "gw", "audience": "gateway"}
        return {"type": "oidc", "oidc": {**oidc, "jwksAllowPrivateIp": True, "insecureAllowHttp": True}}

    def token(
        self, sub: str = "alice", *, key: Any = None, alg: str = "RS256", header: Any = None, **claims: Any
    ) -> str:
        """Return a signed token; claims given as None are left out."""
        now = int(time.time())
        body = {"iss": self.url, "aud": "gateway", "sub": sub, "iat": now, "exp": now + 300, **claims}
        key = key or self.keys[-1]
        head = {"alg": alg, "typ": "at+jwt"}
        if getattr(key, "kid", None):
            head["kid"] = key.kid
        head.update(header or {})
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(
            head,
            {name: value for name, value in body.items() if value is not None},
            key,
            algorithms=[alg],
            registry=_lenient(alg),
        )

    def _elsewhere(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": self.redirect_to + request.path})

    async def _discovery(self, request: web.Request) -> web.Response:
        self.discovery_requests += 1
        if self.down:
            return web.Response(status=503)
        if self.redirect_to:
            return self._elsewhere(request)
        return web.json_response({"issuer": self.url, "jwks_uri": self.url + "/jwks", **self.discovery})

    async def _jwks(self, request: web.Request) -> web.Response:
        self.jwks_requests += 1
        if self.down:
            request.transport.close()
        if self.redirect_to:
            return self._elsewhere(request)
        headers = {"Cache-Control": self.cache_control} if self.cache_control else {}
        if self.jwks_document is not None:
            return web.Response(body=self.jwks_document, status=self.status, headers=headers)
        keys = KeySet(self.keys).as_dict(private=False)
        return web.json_response(keys, status=self.status, headers=headers)

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.exchanges.append(form)
        self.exchange_headers.append(dict(request.headers))
        if self.redirect_to:
            return self._elsewhere(request)
        if self.exchange_gate is not None:
            await self.exchange_gate.wait()
        status = self.exchange_status.pop(0) if len(self.exchange_status) > 1 else self.exchange_status[0]
        if status != 200:
            return web.json_response({"error": "invalid_grant", "error_description": "s3cret detail"}, status=status)
        if self.exchange_body is not None:
            return web.Response(body=self.exchange_body, content_type="application/json")
        if form["grant_type"] == "client_credentials":
            subject = "service"
        else:
            subject = jwt.decode(form["subject_token"], KeySet(self.keys), algorithms=["RS256"]).claims["sub"]
        audience = form.get("audience", "") if self.exchange_audience is None else self.exchange_audience
        if self.opaque_exchange:
            token = f"opaque-{subject}"
            self._opaque[token] = {"sub": subject, "aud": audience, "exp": int(time.time()) + 300}
        else:
            token = self.token(subject, aud=audience, jti=len(self.exchanges))
        answer: dict[str, Any] = {
            "access_token": token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
        }
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        return web.json_response(answer)

    async def _introspect(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.introspections.append(form)
        self.introspection_headers.append(dict(request.headers))
        if self.introspection_gate is not None:
            await self.introspection_gate.wait()
        left = self.introspection_status
        status = left.pop(0) if len(left) > 1 else left[0]
        if status != 200:
            return web.json_response({"error": "invalid_client", "error_description": "s3cret detail"}, status=status)
        if self.introspection_body is not None:
            return web.Response(body=self.introspection_body, content_type="application/json")
        known = self._opaque.get(form["token"])
        answer = {"active": known is not None, **(known or {}), **self.told}
        return web.json_response({name: value for name, value in answer.items() if value is not None})


def _lenient(alg: str) -> Any:
    from joserfc.jws import JWSRegistry

    return JWSRegistry(algorithms=[alg], strict_check_header=False)


def main() -> None:
    """Serve under a URL of its own until the end: `python tests/e2e/vmcp/issuer.py URL PORT`; `/mint` gives a token."""
    issuer = Issuer()
    issuer.url = sys.argv[1]

    async def mint(_request: web.Request) -> web.Response:
        return web.Response(text=issuer.token())

    app = issuer.app()
    app.router.add_get("/mint", mint)
    web.run_app(app, host="0.0.0.0", port=int(sys.argv[2]), print=None, access_log=None)


if __name__ == "__main__":
    main()
