"""Benchmarks against peers: ``python -m benchmarks [RUN...] [--quick]``."""
