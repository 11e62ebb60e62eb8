"""Kubeconfig files: one cluster, one user, everything embedded, readable by the owner only."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from hack.controlplane.pki import KeyPair, write_private


def write(
    path: Path, *, server: str, ca: bytes, user: str, client: KeyPair | None = None, token: str | None = None
) -> Path:
    """Write a kubeconfig for a client certificate or a bearer token; return its path.

    Args:
        path: the file; overwritten.
        server: https URL of the API server.
        ca: PEM of the authority that signed the server's certificate.
        user: name of the user entry and the context; for display only.
        client: client certificate, or None.
        token: bearer token, or None.
    """
    credentials: dict[str, str] = {}
    if client is not None:
        credentials["client-certificate-data"] = _b64(client.certificate)
        credentials["client-key-data"] = _b64(client.key)
    if token is not None:
        credentials["token"] = token
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "controlplane", "cluster": {"server": server, "certificate-authority-data": _b64(ca)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": user, "context": {"cluster": "controlplane", "user": user, "namespace": "default"}}],
        "current-context": user,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
    return path


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
