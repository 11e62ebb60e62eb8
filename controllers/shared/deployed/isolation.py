"""The NetworkPolicy of a gateway or proxy: whether one is wanted, and where the URLs that it may use lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from api.contract.errors import ConfigError
from api.contract.hosts import ALWAYS_BLOCKED, ALWAYS_BLOCKED_6, dialled_host
from controllers.shared.workload.isolation import Destination
from runtime import Event

ANNOTATION = "toolhive.stacklok.dev/network-policy"
ENABLED, DISABLED = "enabled", "disabled"
NEVER_REACHED: tuple[IPv4Network | IPv6Network, ...] = (*ALWAYS_BLOCKED, *ALWAYS_BLOCKED_6)
"""What gateways and proxies refuse to dial: link-local addresses and the metadata services of clouds among them."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 4317, "redis": 6379, "rediss": 6379}


def is_isolated(annotations: Mapping[str, str]) -> bool:
    """Whether a gateway or proxy has a NetworkPolicy."""
    return annotations.get(ANNOTATION) == ENABLED


def isolation_changed(event: Event) -> bool:
    """Predicate: somebody asked for a NetworkPolicy, or no longer does."""
    old, new = event.old, event.new
    return old is None or new is None or old.meta.annotations.get(ANNOTATION) != new.meta.annotations.get(ANNOTATION)


def annotation_problem(annotations: Mapping[str, str]) -> list[ConfigError]:
    """Refuse what is neither yes nor no: somebody who misspells "enabled" must not believe that a policy is there."""
    value = annotations.get(ANNOTATION, DISABLED)
    if value in (ENABLED, DISABLED):
        return []
    where = f"metadata.annotations[{ANNOTATION}]"
    return [ConfigError(where, f'must be "{ENABLED}" or "{DISABLED}", not "{value[:100]}"')]


def urls_in(value: Any) -> Iterator[str]:
    """Yield every URL in a document: a new key must not be forgotten here."""
    if isinstance(value, str):
        if "://" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from urls_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from urls_in(item)


def destinations(urls: Iterable[str], namespace: str, cluster_domain: str) -> tuple[Destination, ...]:
    """Return where URLs and `host:port` addresses lead to, each once and sorted; what is no URL leads nowhere.

    Args:
        urls: any texts.
        namespace: of the pods, in which names of one label are looked up.
        cluster_domain: what names of Services end in.
    """
    found = (place for url in urls for place in _of_url(url, namespace, cluster_domain))
    return tuple(sorted(set(found)))


def _of_url(url: str, namespace: str, cluster_domain: str) -> Iterator[Destination]:
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        host = _host(parts)
    except ValueError:
        return
    if not host or not port:
        return
    service = _namespace_of(host, namespace, cluster_domain)
    if service:
        yield Destination(namespace=service)
    # "name.namespace" may as well be a name of the internet.
    if not service or host.count(".") == 1:
        yield Destination(port=port)


def _host(parts: SplitResult) -> str:
    return dialled_host(parts.hostname).removesuffix(".") if parts.hostname else ""


def _namespace_of(host: str, own: str, cluster_domain: str) -> str:
    """Return the namespace of the Service or pod that a name may mean; "" for none.

    A pod's resolver searches `<namespace>.svc.<domain>`, `svc.<domain>` and `<domain>`.
    """
    if _is_address(host):
        return ""
    labels = host.removesuffix(f".{cluster_domain}").split(".")
    if labels[-1] in ("svc", "pod") and len(labels) > 2:
        return labels[-2]
    if host.endswith(f".{cluster_domain}"):
        return ""
    return {1: own, 2: labels[-1]}.get(len(labels), "")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
