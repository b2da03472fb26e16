"""What a server tells of itself: ids, logs, metrics, health."""
