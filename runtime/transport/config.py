"""Where the API server is and who we are.

Precedence, as controller-runtime has it: an explicit kubeconfig (`--kubeconfig`), `$KUBECONFIG` (a path list,
merged), the service account of the pod, `~/.kube/config`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runtime.transport._library import library
from runtime.transport.auth import (
    CREDENTIALS_LIMIT,
    Credentials,
    LoaderCredentials,
    NoCredentials,
    TokenFile,
)
from runtime.transport.plugin import PluginError
from runtime.transport.proxy import ProxyError, proxy_for
from runtime.transport.tls import TlsFiles

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, its namespace and the cluster's CA."""


class ConfigurationError(Exception):
    """No usable configuration. The message says what was tried and what is wrong with it."""


@dataclass(frozen=True)
class Endpoint:
    """One API server, as one identity."""

    url: str
    """Scheme, host, port and perhaps a path prefix, without a trailing slash."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    credentials: Credentials = field(default_factory=NoCredentials)
    proxy: str | None = None
    """URL of an HTTP proxy, perhaps with a password: not for logs. Of the kubeconfig, else of the environment."""
    namespace: str = "default"
    """The context's namespace, or the pod's."""
    source: str = ""
    """Where this came from, for logs."""


async def load_endpoint(
    kubeconfig: str | None = None,
    *,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
    service_account_dir: Path = SERVICE_ACCOUNT_DIR,
) -> Endpoint:
    """Find and load the configuration.

    Args:
        kubeconfig: path of `--kubeconfig`; None or "" looks further.
        context: name of a context, None for the file's current one.
        environ: environment variables.
        service_account_dir: where the pod's token and CA are.

    Raises:
        ConfigurationError: nothing found, or what was found cannot be used.
    """
    if kubeconfig:
        return await _from_kubeconfig(kubeconfig, context, "--kubeconfig", environ)
    if environ.get("KUBECONFIG"):
        return await _from_kubeconfig(environ["KUBECONFIG"], context, "$KUBECONFIG", environ)
    if environ.get("KUBERNETES_SERVICE_HOST") and (service_account_dir / "token").exists():
        return _from_service_account(environ, service_account_dir)
    home = _existing(f"{environ.get('HOME', '~')}/.kube/config")
    if home:
        return await _from_kubeconfig(home[0], context, "~/.kube/config", environ)
    raise ConfigurationError(
        "no Kubernetes configuration: give --kubeconfig, set KUBECONFIG, run in a pod, or have a ~/.kube/config"
    )


async def _from_kubeconfig(paths: str, context: str | None, source: str, environ: Mapping[str, str]) -> Endpoint:
    lib = library()
    existing = _existing(paths)
    if not existing:
        raise ConfigurationError(f"{source}: no such file: {paths}")
    configuration = lib.Configuration()
    try:
        merged = lib.kube_config.KubeConfigMerger(os.pathsep.join(existing))
        loader = lib.kube_config.KubeConfigLoader(
            config_dict=merged.config, active_context=context, config_base_path=None
        )
        async with asyncio.timeout(CREDENTIALS_LIMIT):
            await loader.load_and_set(configuration)
        proxy = configuration.proxy or proxy_for(str(configuration.host), environ)
    except TimeoutError:
        raise ConfigurationError(f"{source} {paths}: no credentials within {CREDENTIALS_LIMIT:.0f} s") from None
    except (lib.ConfigException, PluginError, ProxyError) as error:
        raise ConfigurationError(f"{source} {paths}: {error}") from error
    except (
        yaml.YAMLError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
    ) as error:
        # The library trusts the file's shape. Its text may hold credentials, so only the kind of error is told.
        raise ConfigurationError(f"{source} {paths}: not a usable kubeconfig ({type(error).__name__})") from None
    namespace = (loader.current_context or {}).get("context", {}).get("namespace") or "default"
    return Endpoint(
        url=str(configuration.host).rstrip("/"),
        tls=TlsFiles(
            ca_file=configuration.ssl_ca_cert,
            cert_file=configuration.cert_file,
            key_file=configuration.key_file,
            server_name=configuration.tls_server_name,
            verify=bool(configuration.verify_ssl),
        ),
        credentials=_credentials(loader, configuration),
        proxy=proxy,
        namespace=namespace,
        source=f"{source} {paths}",
    )


def _existing(paths: str) -> list[str]:
    expanded = [str(Path(path).expanduser()) for path in paths.split(os.pathsep) if path]
    return [path for path in expanded if Path(path).exists()]


def _credentials(loader: Any, configuration: Any) -> Credentials:
    user = _user_of(loader)
    if isinstance(user.get("tokenFile"), str) and "token" not in user and "exec" not in user:
        base = Path(loader._get_base_path(loader._user.path))  # noqa: SLF001  the library offers no other way
        return TokenFile(base / user["tokenFile"])
    token = configuration.api_key.get("BearerToken")
    if token is None and "exec" not in user:
        return NoCredentials()
    refreshable = "exec" in user or loader.provider is not None
    return LoaderCredentials(loader, token, refreshable=refreshable)


def _user_of(loader: Any) -> dict[str, Any]:
    node = loader._user  # noqa: SLF001  the library offers no other way
    value = getattr(node, "value", None)
    return value if isinstance(value, dict) else {}


def _from_service_account(environ: Mapping[str, str], directory: Path) -> Endpoint:
    lib = library()
    configuration = lib.Configuration()
    loader = lib.incluster_config.InClusterConfigLoader(
        token_filename=str(directory / "token"),
        cert_filename=str(directory / "ca.crt"),
        # Our own reader follows a rotated token at once and strips its line end; the library's polls once a minute.
        try_refresh_token=False,
        environ=dict(environ),
    )
    try:
        loader.load_and_set(configuration)
        namespace_file = directory / "namespace"
        namespace = namespace_file.read_text().strip() if namespace_file.exists() else "default"
        proxy = proxy_for(str(configuration.host), environ)
    except (lib.ConfigException, OSError, ProxyError) as error:
        raise ConfigurationError(f"service account: {error}") from error
    return Endpoint(
        url=str(configuration.host).rstrip("/"),
        tls=TlsFiles(ca_file=configuration.ssl_ca_cert),
        credentials=TokenFile(directory / "token"),
        proxy=proxy,
        namespace=namespace,
        source="service account",
    )
