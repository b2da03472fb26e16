"""Servers that a profile describes: requests, answers and lists as its document says."""
