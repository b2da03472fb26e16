"""Uploads that go on where they broke off: what has come of them, and who adds to it."""
