"""Benchmarks against peers: ``python -m benchmarks [http|stores|events|memory] [--quick]``."""
