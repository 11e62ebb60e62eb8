"""Benchmarks of the operator: `python -m hack.bench.operator --help`."""
