"""Helpers without any idea of Kubernetes: clocks, back-off, task groups."""
