"""Names and labels that whatever deploys pods has in common: ToolHive's, because clients and roles know them."""

from __future__ import annotations

from collections.abc import Callable

SCRATCH = "/tmp"  # noqa: S108  a volume of the pod's own
"""The only writable place of a read-only root."""
MAX_LABEL = 63
"""Characters of a label of DNS (RFC 1035, section 2.3.4)."""


def service_problem(name: str, service: Callable[[str], str]) -> str:
    """Say why the Service of an object cannot be named after it; "" when it can (RFC 1035 labels, KEP-5311).

    Args:
        name: of the object.
        service: from the object's name to that of its Service.
    """
    if "." in name:
        return f'the Service would be called "{service(name)}", and the name of a Service cannot contain dots'
    most = MAX_LABEL - len(service(""))
    if len(name) > most:
        return f'the name has {len(name)} characters; at most {most} fit, because the Service is "{service("NAME")}"'
    return ""


def workload_labels(app: str, name: str) -> dict[str, str]:
    """Return the labels of an object's Deployment, Service and pods; `app` tells the kinds apart."""
    return {
        "app": app,
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/instance": name,
        "toolhive": "true",
        "toolhive-name": name,
    }
