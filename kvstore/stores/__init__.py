"""Stores that keep or reach data themselves; none of them imports another."""
