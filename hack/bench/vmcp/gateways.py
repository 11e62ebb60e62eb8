"""The gateways that are compared, and how each is started in front of given backends."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
import issuer as oidc

POLICY = 'permit(principal, action == Action::"call_tool", resource) when { principal.claim_sub == "bench" };'


@dataclass(frozen=True)
class Gateway:
    """One contestant.

    Attributes:
        name: In the tables.
        kind: `direct`, `floor`, `vmcp`, `full`, `proxy`, `proxy-full`, `fastmcp`, `tuned` or `binary`.
        binary: Of `binary`: a program that takes `serve --config F --host H --port P`.
        store: HOST:PORT of a server in which it keeps its sessions; "" = in memory.
    """

    name: str
    kind: str
    binary: str = ""
    store: str = ""

    @property
    def many(self) -> bool:
        """Can serve several backends at a time in these benchmarks."""
        return self.kind in {"vmcp", "full", "binary"}

    @property
    def header(self) -> bool:
        """Needs a token."""
        return self.kind in {"full", "proxy-full"}

    @property
    def environ(self) -> dict[str, str]:
        """What it needs beside its configuration."""
        return {"VMCP_SESSION_HMAC_SECRET": base64.b64encode(b"benchmark" * 4).decode()} if self.store else {}

    def tool(self, backend: str = "b0") -> str:
        """Return the name under which a backend's echo is offered."""
        if self.kind == "floor":
            return "b_echo"
        return f"{backend}_echo" if self.many else "echo"

    def command(self, urls: Sequence[str], port: int, era: str, issuer: oidc.Issuer) -> list[str]:
        """Return the command line."""
        if self.kind == "floor":
            script = str(harness.HERE / "spike" / "gateway.py")
            return [sys.executable, script, "--client", "own", "--backend", urls[0], "--port", str(port)]
        if self.kind in {"fastmcp", "tuned"}:
            script = str(harness.HERE / "fastmcp_proxy.py")
            command = [str(harness.bench_python()), script, "--backend", urls[0], "--port", str(port), "--era", era]
            return [*command, "--tuned"] if self.kind == "tuned" else command
        path = harness.CACHE / f"config-{port}.yaml"
        if self.kind in {"proxy", "proxy-full"}:
            path.write_text(json.dumps(proxy_configuration(urls[0], issuer if self.header else None, path)))
            return [sys.executable, "-m", "vmcp", "proxy", "--config", str(path), "--port", str(port)]
        document = configuration(urls, issuer if self.header else None, path)
        if self.store:
            document["sessionStorage"] = {"provider": "redis", "address": self.store}
        path.write_text(json.dumps(document))
        program = [self.binary] if self.kind == "binary" else [sys.executable, "-m", "vmcp"]
        return [*program, "serve", "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]


def configuration(urls: Sequence[str], issuer: oidc.Issuer | None, path: Path) -> dict[str, object]:
    """Return a configuration file's content; with an issuer everything is on: JWT, Cedar, audit, metrics."""
    backends = [{"name": f"b{i}", "url": url, "transport": "streamable-http"} for i, url in enumerate(urls)]
    config: dict[str, object] = {
        "name": "bench",
        "groupRef": "bench",
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
        "aggregation": {
            "conflictResolution": "prefix",
            "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
        },
        "backends": backends,
    }
    if issuer is not None:
        config |= _everything(issuer, path)
    return config


def proxy_configuration(url: str, issuer: oidc.Issuer | None, path: Path) -> dict[str, object]:
    """Return the content of a proxy's configuration file; with an issuer everything is on, as above."""
    remote = {"url": url, "transport": "streamable-http"}
    config: dict[str, object] = {"name": "bench", "remote": remote, "incomingAuth": {"type": "anonymous"}}
    return config if issuer is None else config | _everything(issuer, path)


def _everything(issuer: oidc.Issuer, path: Path) -> dict[str, object]:
    return {
        "incomingAuth": {
            "type": "oidc",
            "oidc": {
                "issuer": issuer.url,
                "audience": oidc.AUDIENCE,
                "clientId": "bench",
                "insecureAllowHttp": True,
                "jwksAllowPrivateIp": True,
            },
            "authz": {"type": "cedar", "policies": [POLICY]},
        },
        "audit": {"enabled": True, "logFile": str(path.with_suffix(".audit"))},
        "telemetry": {"enablePrometheusMetricsPath": True},
    }
