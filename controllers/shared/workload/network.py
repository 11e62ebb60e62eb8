"""What stands before a workload's pods: the Service, and the budget by which a drain takes them."""

from __future__ import annotations

from collections.abc import Mapping

from controllers.shared.workload.manifest import Json, manifest


def desired_service(
    name: str, namespace: str, labels: Mapping[str, str], port: int, *, type_: str, session_affinity: str
) -> Json:
    """Return the Service of the pods that have `labels`, on one port of theirs called `http`."""
    body = manifest("v1", "Service", name, namespace, labels)
    body["spec"] = {
        "type": type_,
        "sessionAffinity": session_affinity,
        "selector": dict(labels),
        "ports": [{"name": "http", "port": port, "targetPort": port, "protocol": "TCP"}],
    }
    return body


def desired_disruption_budget(name: str, namespace: str, labels: Mapping[str, str]) -> Json:
    """Return the PodDisruptionBudget that drains nodes one pod after the other.

    Pods that are not ready anyway do not hold up a drain.
    """
    body = manifest("policy/v1", "PodDisruptionBudget", name, namespace, labels)
    body["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": dict(labels)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return body


def service_url(name: str, namespace: str, cluster_domain: str, port: int) -> str:
    """Return the URL of a Service inside the cluster."""
    return f"http://{name}.{namespace}.svc.{cluster_domain}:{port}"
