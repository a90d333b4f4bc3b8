"""Benchmarks: each is run as ``python -m benchmarks.<name>`` from the repository's root."""
