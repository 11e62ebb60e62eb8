"""How long a gateway's pod has for its end: the operator knows, the gateway divides it."""

from __future__ import annotations

GRACE_PERIOD_ENV = "VMCP_TERMINATION_GRACE_PERIOD_SECONDS"
"""The pod's `terminationGracePeriodSeconds`, after podTemplateSpec: a pod is not told by Kubernetes itself."""
GRACE_PERIOD = 30
"""Seconds that a gateway's pod has unless podTemplateSpec says otherwise."""
