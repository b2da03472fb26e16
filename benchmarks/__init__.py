"""Benchmarks against peers: ``python -m benchmarks [http|stores|library|index|events|memory] [--quick]``."""
