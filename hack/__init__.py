"""Generators, the control plane for tests and demo, benchmarks. Nothing here is shipped."""
