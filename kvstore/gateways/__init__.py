"""Routers of the server for the clients of other systems, each in a package of its own."""
