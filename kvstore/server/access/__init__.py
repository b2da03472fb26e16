"""Who sends a request, and what that one sees of the store."""
