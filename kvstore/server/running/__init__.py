"""The server as a program: its settings, its processes, its beginning and end."""
